"""Chunks and messages."""

from __future__ import annotations

import json
from dataclasses import fields
from importlib.util import find_spec

import pytest

from shared import pipeline, tables
from shared.pipeline import JOB_STAGES, Queue, Stage
from shared.settings import Settings
from shared.tasks import Claim


def test_chunks_follow_each_other_without_gap():
    assert pipeline.chunk_bounds(0) == (0, 256)
    assert pipeline.chunk_bounds(1) == (256, 512)


def test_a_message_comes_back_as_its_task_and_is_small():
    body = pipeline.message("11111111-1111-1111-1111-111111111111")
    assert len(json.dumps(body)) < 300
    assert pipeline.task_id_of(body) == "11111111-1111-1111-1111-111111111111"


def test_a_message_of_a_newer_sender_is_unreadable():
    with pytest.raises(pipeline.UnreadableMessage, match="version 2"):
        pipeline.task_id_of({"v": 2, "task_id": "x"})


def test_a_message_that_names_no_task_is_unreadable():
    with pytest.raises(pipeline.UnreadableMessage, match="names no task"):
        pipeline.task_id_of({"v": 1})


def test_fields_that_a_newer_sender_adds_are_left_alone():
    assert pipeline.task_id_of({"v": 1, "task_id": "x", "priority": "high"}) == "x"


def test_every_queue_has_a_name_of_its_own_and_every_stage_a_queue():
    assert len({queue.task_name for queue in Queue}) == len(Queue)
    assert {queue.stage for queue in Queue} == set(Stage)


def test_a_stage_is_known_by_its_name_and_called_by_its_label():
    assert Stage("keyframes") is Stage.KEYFRAMES == "keyframes"
    assert json.dumps({"stage": Stage.KEYFRAMES}) == '{"stage": "keyframes"}'
    assert [stage.label for stage in JOB_STAGES] == ["Key frames", "Embedding", "Clustering"]


@pytest.mark.parametrize("queue", Queue)
def test_a_queue_has_columns_a_deadline_and_a_process_that_reads_it(queue):
    assert set(queue.subject) <= set(tables.tasks.columns.keys())
    assert Settings(own_models={}).deadline_s(queue.stage) > 0
    module, *options = queue.worker_arguments
    assert options in ([], ["--queue", queue.value])
    assert find_spec(module)


@pytest.mark.parametrize("queue", Queue)
def test_a_claim_carries_what_the_task_is_about(queue):
    assert set(queue.subject) <= {each.name for each in fields(Claim)}
