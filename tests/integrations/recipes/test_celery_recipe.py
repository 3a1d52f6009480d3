"""docs/recipes/celery.md: a worker answers what the page's program sends."""

from __future__ import annotations

import importlib

import pytest

from support.recipes import Recipe

pytest.importorskip("celery")
# Of Celery's own making.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")


@pytest.fixture
def recipe(tmp_path, bundled_bundle, monkeypatch):
    return Recipe("celery", tmp_path, bundled_bundle, monkeypatch)


@pytest.fixture
def tasks(recipe):
    tasks = importlib.import_module("tasks")
    tasks.app.conf.update(broker_url="memory://", result_backend="cache+memory://")
    yield tasks
    if tasks.answerer.cache_info().currsize:
        tasks.answerer().close()


def test_importing_the_tasks_loads_no_model(tasks):
    assert tasks.answerer.cache_info().currsize == 0


def test_a_worker_prints_what_stands_on_the_page(recipe, tasks, capsys):
    from celery.contrib.testing.worker import start_worker

    with start_worker(tasks.app, pool="solo", perform_ping_check=False, loglevel="ERROR"):
        recipe.run()
    assert capsys.readouterr().out == recipe.shown


def test_a_worker_loads_the_model_as_its_process_begins(tasks):
    from celery.signals import worker_process_init

    worker_process_init.send(sender=None)
    assert tasks.answerer.cache_info().currsize == 1
