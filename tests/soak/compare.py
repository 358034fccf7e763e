"""Two finished runs of the same configuration, held against each other bit for bit."""

from __future__ import annotations

from collections import Counter

from ssl_lt.engine.checkpoints.run_folder import RunFolder


def number_of_lines(run: RunFolder) -> int:
    """Of metrics.jsonl."""
    return run.metrics.read_bytes().count(b"\n") if run.metrics.is_file() else 0


def newest_step(run: RunFolder) -> int:
    """Of its checkpoints; 0 while there is none."""
    return max((int(path.name[5:]) for path in run.checkpoints.glob("step-*")), default=0)


def differences(run: RunFolder, undisturbed: RunFolder) -> list[str]:
    """Lines of the log, and files, in which two finished runs differ; none if they are the same."""
    found = []
    lines, expected = (r.metrics.read_text().splitlines() for r in (run, undisturbed))
    lost, more = Counter(expected) - Counter(lines), Counter(lines) - Counter(expected)
    found += [f"metrics.jsonl: lost {line}" for line in lost]
    found += [f"metrics.jsonl: {'twice' if x in expected else 'unknown'} {x}" for x in more]
    if not found and lines != expected:
        found.append("metrics.jsonl: lines in another order")
    own, wanted = contents(run), contents(undisturbed)
    found += [f"{name}: missing" for name in wanted.keys() - own.keys()]
    found += [f"{name}: left over" for name in own.keys() - wanted.keys()]
    found += [f"{n}: other content" for n in own.keys() & wanted.keys() if own[n] != wanted[n]]
    return sorted(found)


def contents(run: RunFolder) -> dict[str, bytes]:
    """Files that must be the same, by name; b"" of those that hold times and names."""
    newest = f"step-{newest_step(run):06d}"
    found = {}
    for path in sorted(p for p in run.path.rglob("*") if p.is_file()):
        name = path.relative_to(run.path)
        if name.parts[0] == "checkpoints":
            # Which older ones are there follows from where the run was stopped.
            if name.parts[1] != newest and not name.parts[1].startswith("."):
                continue
            found[str(name)] = path.read_bytes()
        elif name.parts[0] in ("exported", "scores", "split.json"):
            found[str(name)] = path.read_bytes()
        else:
            found[str(name)] = b""
    return found
