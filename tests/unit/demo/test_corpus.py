"""The demo's corpus: the truth that is written down is what the clips show."""

from __future__ import annotations

import hashlib
import random
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest

from services.demo import corpus


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A corpus of four photographs, for speed."""
    folder = tmp_path_factory.mktemp("corpus")
    with pytest.MonkeyPatch.context() as patch:
        photos = {name: corpus.PHOTOS[name] for name in ("cat", "dahlia", "print", "rocket")}
        patch.setattr(corpus, "PHOTOS", photos)
        yield folder, corpus.make_corpus(folder, seed=1)


def frames_of(path):
    import av

    with av.open(path) as container:
        return [(frame.time, frame.to_ndarray(format="rgb24")) for frame in container.decode(video=0)]


def test_every_photograph_is_in_the_installed_wheels():
    for package, file in corpus.PHOTOS.values():
        assert corpus._load_photo(package, file).shape[2] == 3


def test_every_photograph_comes_back_in_three_different_clips(made):
    folder, clips = made
    truth = corpus.load_corpus(folder)
    assert [path.name for path in clips] == list(truth)
    seen = Counter(photo for shots in truth.values() for photo in {shot.photo for shot in shots})
    assert set(seen.values()) == {3}


def test_shots_follow_on_each_other_and_fill_the_clip(made):
    folder, clips = made
    for path in clips:
        shots = corpus.load_corpus(folder)[path.name]
        assert shots[0].start_s == 0
        assert all(before.end_s == after.start_s for before, after in pairwise(shots))
        times_s = [time_s for time_s, _ in frames_of(path)]
        assert len(times_s) == round(shots[-1].end_s * corpus.FRAMES_PER_S)


def test_the_picture_changes_at_the_cuts_and_only_there(made):
    folder, clips = made
    pictures = [rgb.astype(np.int16) for _, rgb in frames_of(clips[0])]
    changes = np.array([np.abs(after - before).mean() for before, after in pairwise(pictures)])
    cuts = [round(s.start_s * corpus.FRAMES_PER_S) for s in corpus.load_corpus(folder)[clips[0].name][1:]]
    within_shots = [c for i, c in enumerate(changes, start=1) if min(abs(i - cut) for cut in cuts) > 6]
    for cut in cuts:
        assert changes[cut - 7 : cut + 6].max() > 1.2 * np.median(within_shots)


def test_truth_at_names_the_photograph_on_both_sides_of_a_cut(made):
    folder, clips = made
    truth = corpus.load_corpus(folder)
    first, second = truth[clips[0].name][:2]
    assert corpus.truth_at(truth, clips[0].name, first.end_s - 0.01) == first.photo
    assert corpus.truth_at(truth, clips[0].name, first.end_s) == second.photo
    with pytest.raises(ValueError, match="ends before"):
        corpus.truth_at(truth, clips[0].name, 99)


def test_the_same_seed_makes_the_same_bytes_and_another_seed_another_corpus(made, tmp_path):
    _, clips = made

    def digest(paths):
        return hashlib.sha256(b"".join(path.read_bytes() for path in paths)).hexdigest()

    assert digest(corpus.make_corpus(tmp_path, seed=1)) == digest(clips)
    assert corpus._plan(random.Random(1)) != corpus._plan(random.Random(2))
