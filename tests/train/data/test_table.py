"""One reader for folders and tables: parts, findings, patients, same films, and bad rows."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_runtime.errors import InvalidValueError
from train.data.dataset import read_folder
from train.data.table import read_table


def films(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")


def table(folder: Path, text: str, name: str = "films.csv") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


@pytest.fixture
def public(tmp_path: Path) -> Path:
    folder = tmp_path / "chest_xray"
    films(
        folder,
        "train/NORMAL/IM-0001-0001.jpeg", "train/PNEUMONIA/person1_virus_1.jpeg",
        "val/NORMAL/NORMAL2-IM-0002-0001.jpeg", "val/PNEUMONIA/person2_bacteria_3.jpeg",
        "test/NORMAL/IM-0003-0001.jpeg", "test/PNEUMONIA/mine.jpeg", "test/PNEUMONIA/.DS_Store",
    )  # fmt: skip
    return folder


def test_the_public_layout_is_read_as_ever(public: Path) -> None:
    found = read_table([public])
    assert found.root == public
    for parts in (("train", "val"), ("test",)):
        assert found.samples(parts) == read_folder(public, parts)
    assert {f.source for f in found.films} == {"chest_xray"}
    assert found.guessed == 1  # mine.jpeg: a name of no known form


def test_a_single_part_has_no_split(tmp_path: Path) -> None:
    films(tmp_path, "NO_FINDING/00000061_012.png", "PNEUMONIA/00000150_002.png")
    found = read_table([tmp_path])
    assert [(f.sample.kind, f.sample.patient, f.part) for f in found.films] == [
        ("normal", "00000061", ""), ("pneumonia", "00000150", "")
    ]  # fmt: skip


def test_a_csv_says_what_is_known(tmp_path: Path) -> None:
    films(tmp_path, "a/1.png", "a/2.png", "b/3.png")
    path = table(
        tmp_path,
        "path,finding,patient,source,split,view,age,contrast,crop,boxes,more\n"
        "a/1.png,normal,p1,ward,train,ap,4,,,,x\n"
        "a/2.png,opacity,p2,ward,validation,PA,,inverted,lungs,0.1 0.2 0.3 0.4; 0 0 .5 1,\n"
        "b/3.png,hernia,,,,,,,,,\n",
    )
    one, two, three = read_table([path], {"opacity": "pneumonia"}).films
    assert (one.sample.patient, one.view, one.age, one.part) == ("p1", "AP", 4.0, "train")
    assert (two.sample.kind, two.part, two.inverted, two.crop) == (
        "pneumonia",
        "val",
        True,
        "lungs",
    )
    assert two.boxes == ((0.1, 0.2, 0.3, 0.4), (0.0, 0.0, 0.5, 1.0))
    assert (three.sample.kind, three.source, three.sample.patient) == ("hernia", "films", "3")
    left = read_table([path], {"opacity": "pneumonia", "hernia": ""})
    assert [f.sample.kind for f in left.films] == ["normal", "pneumonia"]
    assert left.guessed == 1


def test_several_data_sets_share_a_root(public: Path, tmp_path: Path) -> None:
    films(tmp_path / "hospitals", "nih/1.png")
    path = table(tmp_path / "hospitals", "path,label\nnih/1.png,normal\n")
    found = read_table([public, path])
    assert found.root == tmp_path
    paths = {f.sample.path for f in found.films}
    assert {"hospitals/nih/1.png", "chest_xray/train/NORMAL/IM-0001-0001.jpeg"} <= paths
    assert all((found.root / p).is_file() for p in paths)


def test_the_same_film_is_one_patient_over_data_sets(tmp_path: Path) -> None:
    films(tmp_path, "1.png", "2.png", "3.png", "4.png")
    path = table(
        tmp_path,
        "path,finding,patient,same_film\n1.png,normal,nih-1,3.png\n2.png,normal,nih-1,\n"
        "3.png,normal,rsna-9,4.png\n4.png,normal,other-4,elsewhere.png\n",
    )
    assert {f.sample.patient for f in read_table([path]).films} == {"nih-1"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("finding\nnormal\n", "needs the columns path and finding"),
        ("path,finding\nnone.png,normal\n", "line 2: there is no file"),
        ("path,finding\n1.png,\n", "line 2: 1.png has no finding"),
        ("path,finding\n1.png,normal\n1.png,normal\n", "1.png is listed twice"),
        ("path,finding,age\n1.png,normal,old\n", "line 2: age 'old' is no number"),
        ("path,finding,age\n1.png,normal,nan\n", "line 2: age 'nan'"),
        ("path,finding,split\n1.png,normal,tset\n", "split 'tset' is none of train, val"),
        ("path,finding,contrast\n1.png,normal,odd\n", "contrast 'odd' is none of"),
        ("path,finding,boxes\n1.png,normal,1 2 3\n", "is not x y width height"),
        ("path,finding,boxes\n1.png,normal,0.9 0 0.5 0.5\n", "does not lie in a film"),
        ("path,finding,boxes\n1.png,normal,nan 0 0.5 0.5\n", "does not lie in a film"),
        ("", "it has none"),
    ],
)
def test_a_bad_table_is_refused_by_line(tmp_path: Path, text: str, said: str) -> None:
    films(tmp_path, "1.png")
    with pytest.raises(InvalidValueError, match=said):
        read_table([table(tmp_path, text)])


def test_no_data_and_no_images_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidValueError, match="no data"):
        read_table([])
    with pytest.raises(InvalidValueError, match="no images in"):
        read_table([tmp_path])
    with pytest.raises(InvalidValueError, match="No such file"):
        read_table([tmp_path / "none.csv"])


def test_the_hospitals_table_is_read(data: Path) -> None:
    path = data / "hospitals" / "hospitals.csv"
    if not path.is_file():
        pytest.skip(f"no {path}")
    found = read_table([data / "chest_xray", path], {"abnormal, no opacity": ""})
    by_path = {f.sample.path: f for f in found.films}
    assert len(found.films) == 5856 + 13796 - 2300
    assert sum(f.inverted for f in found.films) == 8445 - 2300
    one = by_path["hospitals/nih-sample/00000589_000.jpg"].sample
    twin = by_path["hospitals/rsna-lungs/17c89450-d10e-4041-afa0-4c5a39adccdd.jpg"].sample
    assert one.patient == twin.patient
    assert max(f.age or 0 for f in found.films) < 121  # a register's 155 is nobody's age
