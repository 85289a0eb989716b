"""Each stage by itself, on files, through the command line."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import av
import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from services.cli import commands


@pytest.fixture
def reelmap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Runs `reelmap` in a folder of its own."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: object) -> Result:
        return CliRunner().invoke(commands, [str(argument) for argument in arguments], catch_exceptions=False)

    return run


@pytest.fixture
def video(tmp_path: Path) -> Path:
    """Two seconds, a cut in the middle."""
    path = tmp_path / "two shots.mp4"
    with av.open(path, "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for index in range(20):
            picture = np.random.default_rng(index // 10).integers(0, 256, (6, 8, 3), dtype=np.uint8)
            frame = av.VideoFrame.from_ndarray(picture.repeat(8, 0).repeat(8, 1), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


@pytest.fixture
def vectors(tmp_path: Path) -> Path:
    """Thirty vectors in three far groups of ten."""
    X = np.random.default_rng(0).normal(size=(30, 3)) + np.repeat(np.eye(3) * 50, 10, axis=0)
    np.save(tmp_path / "X.npy", X.astype(np.float32))
    return tmp_path / "X.npy"


def test_keyframes_prints_exactly_the_promised_document(reelmap, video: Path, tmp_path: Path) -> None:
    result = reelmap("keyframes", video, "--json")
    assert result.exit_code == 0, result.stderr
    document = json.loads(result.stdout)
    assert list(document) == ["frames", "duration_s", "shots", "key_frames", "reduction"]
    assert document["frames"] == 20
    assert document["duration_s"] == pytest.approx(2)
    assert all(list(shot) == ["start_frame", "end_frame", "start_s", "end_s"] for shot in document["shots"])
    assert all(list(one) == ["frame_index", "time_s", "shot_index", "file"] for one in document["key_frames"])
    assert document["reduction"] == pytest.approx(1 - len(document["key_frames"]) / 20)
    written = sorted(str(path.relative_to(tmp_path)) for path in (tmp_path / "two shots-key-frames").iterdir())
    assert written == [one["file"] for one in document["key_frames"]]


def test_keyframes_replaces_the_pictures_of_an_earlier_run_and_nothing_else(reelmap, video: Path, tmp_path) -> None:
    out = tmp_path / "new" / "out"
    assert reelmap("keyframes", video, "--out", out, "--strategy", "uniform", "--set", "every_s=0.5").exit_code == 0
    (out / "mine.jpg").touch()
    assert reelmap("keyframes", video, "--out", out, "--strategy", "uniform", "--set", "every_s=10").exit_code == 0
    assert sorted(path.name for path in out.iterdir()) == ["0000000.jpg", "mine.jpg"]


def test_scores_tell_of_every_frame_why_there_is_a_cut_or_none(reelmap, video: Path, tmp_path: Path) -> None:
    assert reelmap("keyframes", video, "--scores", "why.csv").exit_code == 0
    with (tmp_path / "why.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["frame_index"]) for row in rows] == list(range(20))
    assert [float(row["time_s"]) for row in rows] == pytest.approx([index / 10 for index in range(20)], abs=0.001)
    assert [row["decision"] for row in rows[:1]] == ["first"]
    assert [index for index, row in enumerate(rows) if row["decision"] == "cut"] == [10]
    assert float(rows[10]["difference"]) > 10 > max(float(rows[index]["difference"]) for index in (1, 9, 11, 19))
    assert float(rows[10]["novelty"]) > 0.2
    assert min(float(row["contrast"]) for row in rows) > 10
    assert [row["shot_index"] for row in rows] == ["0"] * 10 + ["1"] * 10
    pictures = sorted(path.name for path in (tmp_path / "two shots-key-frames").iterdir())
    assert [f"{int(row['frame_index']):07d}.jpg" for row in rows if row["key_frame"] == "yes"] == pictures


@pytest.mark.parametrize("strategy", ["uniform", "i_frames"])
def test_scores_of_a_strategy_that_compares_nothing_are_refused(reelmap, video: Path, tmp_path, strategy) -> None:
    result = reelmap("keyframes", video, "--strategy", strategy, "--scores", "why.csv")
    assert result.exit_code == 1
    assert f"The strategy '{strategy}' does not compare frames" in " ".join(result.stderr.split())
    assert list(tmp_path.iterdir()) == [video]


def test_scores_into_a_folder_that_is_not_there_are_refused_before_reading(reelmap, video: Path, tmp_path) -> None:
    result = reelmap("keyframes", video, "--scores", "none/why.csv")
    assert result.exit_code == 2
    assert "There is no folder none" in result.stderr
    assert list(tmp_path.iterdir()) == [video]


def test_keyframes_of_something_else_is_one_line_and_leaves_nothing(reelmap, tmp_path: Path) -> None:
    text = tmp_path / "a.mp4"
    text.write_text("not a video")
    result = reelmap("keyframes", text)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("Error: ")
    assert result.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == [text]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--strategy", "magic"], "there is no key-frame strategy 'magic'"),
        (["--set", "foo=1"], "no parameter 'foo'"),
        (["--strategy", "uniform", "--set", "every_s=-1"], "every_s"),
        (["--set", "every_s"], "not of the form name=value"),
    ],
)
def test_keyframes_refuses_wrong_parameters_by_name(reelmap, video: Path, arguments: list[str], said: str) -> None:
    result = reelmap("keyframes", video, *arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert said in result.stderr


def test_embed_writes_one_row_per_picture_in_their_order(reelmap, tmp_path: Path) -> None:
    for name, color in (("b", (250, 20, 20)), ("a", (20, 20, 250))):
        Image.new("RGB", (40, 30), color).save(tmp_path / f"{name}.png")
    result = reelmap("embed", "b.png", "a.png", "b.png", "--model", "hog_color", "-o", "X.npy", "--json")
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["shape"] == [3, 404]
    X = np.load(tmp_path / "X.npy")
    assert X.dtype == np.float32
    assert (X[0] == X[2]).all()
    assert (X[0] != X[1]).any()


def test_embed_names_the_file_that_is_no_picture(reelmap, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("text")
    result = reelmap("embed", "a.png", "--model", "hog_color", "-o", "X.npy")
    assert result.exit_code == 1
    assert "a.png: " in result.stderr
    assert not (tmp_path / "X.npy").exists()


def test_embed_without_weights_says_what_to_do(reelmap, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REELMAP_HUB", "no")
    Image.new("RGB", (40, 30)).save(tmp_path / "a.png")
    result = reelmap("embed", "a.png", "--model", "efficientnet_b0", "-o", "X.npy")
    assert result.exit_code == 1
    assert "REELMAP_WEIGHTS_DIR" in result.stderr


def test_cluster_prints_labels_and_quality(reelmap, vectors: Path) -> None:
    result = reelmap("cluster", vectors, "--n-clusters", 3, "--seed", 3, "--json")
    assert result.exit_code == 0, result.stderr
    document = json.loads(result.stdout)
    assert document["labels"] == [0] * 10 + [1] * 10 + [2] * 10
    assert (document["n_clusters_asked"], document["n_clusters_used"], document["seed"]) == (3, 3, 3)
    assert document["sizes"] == [10, 10, 10]
    assert document["silhouette"] > 0.9
    assert document["inertia"] > 0


def test_cluster_sweeps_over_numbers_of_clusters_and_shows_the_evidence(reelmap, vectors: Path) -> None:
    evidence = json.loads(reelmap("cluster", vectors, "--sweep", "--json").stdout)["evidence"]
    assert max(evidence, key=lambda row: row["silhouette"] or -1)["n_clusters"] == 3
    shown = reelmap("cluster", vectors, "--sweep").stdout
    assert shown.splitlines()[0].split() == ["clusters", "silhouette", "inertia"]
    assert len(shown.splitlines()) == len(evidence) + 1


@pytest.mark.parametrize(
    ("arguments", "exit_code", "said"),
    [
        (["--algorithm", "magic"], 2, "there is no clustering algorithm 'magic'"),
        (["--n-clusters", "0"], 2, "0 is not in the range"),
        (["--n-clusters", "many"], 2, "many"),
        (["--algorithm", "hdbscan", "--n-clusters", "3"], 2, "no parameter 'n_clusters'"),
        (["--algorithm", "hdbscan", "--sweep"], 1, "finds the number of clusters by itself"),
    ],
)
def test_cluster_refuses_wrong_settings_by_name(reelmap, vectors: Path, arguments, exit_code: int, said: str) -> None:
    result = reelmap("cluster", vectors, *arguments)
    assert (result.exit_code, result.stdout) == (exit_code, "")
    assert said in result.stderr


@pytest.mark.parametrize(
    "array", [np.zeros(3), np.zeros((2, 0)), np.array([["a"]]), np.array([[None]]), np.full((2, 2), np.nan)]
)
def test_cluster_refuses_files_that_hold_no_vectors(reelmap, tmp_path: Path, array: np.ndarray) -> None:
    np.save(tmp_path / "X.npy", array, allow_pickle=True)
    result = reelmap("cluster", "X.npy")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("Error: ")


def test_cluster_refuses_a_file_that_is_no_array(reelmap, tmp_path: Path) -> None:
    (tmp_path / "X.npy").write_text("hello")
    assert "not a NumPy file" in reelmap("cluster", "X.npy").stderr
