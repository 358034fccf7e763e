"""`python pretrain.py`: see --help."""

from ssl_lt.cli.main import run_verb

if __name__ == "__main__":
    run_verb("pretrain")
