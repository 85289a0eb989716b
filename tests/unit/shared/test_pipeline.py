"""Chunks and messages."""

from __future__ import annotations

import json

import pytest

from shared import pipeline
from shared.pipeline import STAGE_OF_QUEUE, TASK_NAME, Queue


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


def test_every_queue_has_a_stage_and_a_name_of_its_own():
    assert set(STAGE_OF_QUEUE) == set(Queue)
    assert len(set(TASK_NAME.values())) == len(Queue)
