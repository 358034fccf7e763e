"""The model card: its front matter, and what it says of training, results and limits."""

from dataclasses import replace

from ruamel.yaml import YAML

from ssl_lt.report.pages.card import ModelFacts, TrainingFacts, model_card
from ssl_lt.report.tables.intervals import intervals_of

MODEL = ModelFacts("run 1", "resnet18", False, "12 logits", True, "", ("RGB",), "", ("same",))
TRAINING = TrainingFacts("Fine-tuned.", ("loss: la", "epochs: 3"), {}, "finetune.py --loss la")


def card_of(run, *, model=MODEL, training=TRAINING, license="mit"):
    text = model_card(model, training, run.data, run, license=license)
    nothing, head, body = text.split("---\n", 2)
    assert nothing == ""
    return YAML(typ="safe", pure=True).load(head), body


def section(body, title):
    return body.split(f"\n## {title}\n")[1].split("\n## ")[0]


def test_the_front_matter_is_what_a_hub_reads(make_run):
    head, body = card_of(make_run(), training=replace(TRAINING, datasets=("org/set",)))
    assert head == {
        "license": "mit",
        "library_name": "timm",
        "pipeline_tag": "image-classification",
        "tags": ["image-classification", "timm", "long-tailed"],
        "datasets": ["org/set"],
    }
    assert "No licence is given" not in body
    head, body = card_of(make_run(), license="unknown")
    assert "datasets" not in head
    assert "No licence is given" in section(body, "Limits")


def test_training_is_told_with_its_tail_and_its_start(make_run):
    run = make_run(largest=500)
    start = {"weights": "timm:resnet18.a1_in1k", "sha256": "ab" * 32, "license": "apache-2.0"}
    _, body = card_of(run, training=replace(TRAINING, started_from=start))
    data = section(body, "Trained on")
    assert "12 classes of 500 to 5 images, imbalance 100.0" in data
    assert "- largest: class 0 (500), class 1 (" in data
    assert "class 11 (5)\n" in data.split("- smallest: ")[1]
    recipe = section(body, "Recipe")
    assert "- loss: la\n- epochs: 3\n" in recipe
    assert f"SHA-256 `{'ab' * 32}`, licence apache-2.0" in recipe
    del start["license"]
    _, body = card_of(run, training=replace(TRAINING, started_from=start))
    assert "no licence recorded" in section(body, "Recipe")
    start = {"run": "/runs/before", "epochs": "7"}
    _, body = card_of(run, training=replace(TRAINING, started_from=start))
    assert "continues the run /runs/before, of 7 epochs" in section(body, "Recipe")
    assert "random weights" in section(card_of(run)[1], "Recipe")


def test_results_have_intervals_rule_and_what_is_behind_the_groups(make_run):
    run = make_run()
    _, body = card_of(run)
    evaluation = run.evaluations[0]
    interval = intervals_of(run, evaluation).balanced
    half = 50 * (interval.high - interval.low)
    shown = f"{100 * evaluation.accuracy.balanced:.1f} ± {half:.1f}"
    assert shown in section(body, "Results")
    assert "Nothing was chosen on that split" in section(body, "Results")
    number = len(run.data.groups[0].few)
    limits = section(body, "Limits")
    assert "Groups by count (many &gt; 100" in limits
    assert f"few {number} classes with {40 * number} test images" in limits


def test_temperature_and_how_to_load(make_run):
    run = make_run()
    _, body = card_of(run, model=replace(MODEL, temperature="1.250, fitted on 90 images"))
    assert section(body, "Temperature").startswith("\n1.250, fitted on 90 images.")
    loading = section(body, "Loading")
    assert 'timm.create_model("local-dir:/path/to/this/folder", pretrained=True)' in loading
    assert 'ssl_lt.load("/path/to/this/folder")' in loading
    assert "ssl-lt predict /path/to/this/folder FOLDER_OF_IMAGES" in loading
    features = replace(MODEL, is_classifier=False, repository="org/name")
    _, body = card_of(run, model=features)
    assert "## Temperature" not in body
    loading = section(body, "Loading")
    assert 'timm.create_model("hf-hub:org/name", pretrained=True)' in loading
    assert 'ssl_lt.load(snapshot_download("org/name"))' in loading
    assert "hf download org/name --local-dir model\nssl-lt embed model" in loading
