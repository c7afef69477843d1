"""The errors: one tree, each also a builtin, telling where it happened, and crossing process borders whole."""

from __future__ import annotations

import copy
import inspect
import multiprocessing
import pickle
import re
import traceback
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor

import pytest

import portable
from portable import errors
from portable.batches import BatchResult
from portable.errors import PortableError

KINDS = [getattr(errors, name) for name in errors.__all__]
BUILTINS = {
    errors.ConfigError: ValueError,
    errors.NotFound: LookupError,
    errors.ResourceNotFound: errors.NotFound,
    errors.LeaseLost: errors.PreconditionFailed,
    errors.InvalidArgument: ValueError,
    errors.LimitExceeded: errors.InvalidArgument,
    errors.PermissionDenied: PermissionError,
    errors.Unsupported: NotImplementedError,
    errors.Unavailable: ConnectionError,
    errors.DeadlineExceeded: TimeoutError,
}
RETRYABLE = {errors.Throttled, errors.Unavailable, errors.DeadlineExceeded}


def made(kind: type[PortableError]) -> PortableError:
    context = {"resource": "jobs", "operation": "send", "provider": "sqs", "maybe_applied": True}
    if kind is errors.BatchError:
        result: BatchResult[str] = BatchResult(["1", errors.Throttled("slow down")])
        return errors.BatchError("part of it failed", result=result, **context)
    return kind("what was wrong", **context)  # type: ignore[arg-type]  # the names of each are as they should be


@pytest.mark.parametrize("kind", KINDS)
def test_each_is_in_the_tree_and_is_the_builtin_that_fits(kind: type[PortableError]) -> None:
    assert issubclass(kind, PortableError)
    assert issubclass(kind, BUILTINS.get(kind, PortableError))
    assert made(kind).retryable is (kind in RETRYABLE)


def test_the_tree_in_the_docstring_is_the_tree() -> None:
    told = dict(re.findall(r"[├└]── (\w+)(?: \((\w+)\))?", errors.__doc__ or ""))
    assert set(told) == set(errors.__all__) - {"PortableError"}
    for name, builtin in told.items():
        parents = {parent.__name__ for parent in getattr(errors, name).__bases__ if parent not in KINDS}
        assert parents == ({builtin} if builtin else set()), name


@pytest.mark.parametrize("kind", KINDS)
def test_each_says_where_and_what_in_one_line(kind: type[PortableError]) -> None:
    error = made(kind)
    assert str(error) == f"jobs (sqs) send: {error.message}"
    assert "\n" not in traceback.format_exception_only(error)[0].rstrip("\n")


@pytest.mark.parametrize(
    ("context", "told"),
    [
        ({}, "no"),
        ({"resource": "jobs"}, "jobs: no"),
        ({"provider": "sqs"}, "sqs: no"),
        ({"operation": "send"}, "send: no"),
        ({"resource": "jobs", "provider": "sqs"}, "jobs (sqs): no"),
        ({"provider": "sqs", "operation": "send"}, "sqs send: no"),
    ],
)
def test_what_is_not_known_is_left_out(context: dict[str, str], told: str) -> None:
    error = PortableError("no", **context)  # type: ignore[arg-type]  # the names of each are as they should be
    assert str(error) == told
    assert (error.resource, error.operation, error.provider) == tuple(
        context.get(name) for name in ("resource", "operation", "provider")
    )


def state(error: PortableError) -> tuple[object, ...]:
    return (
        type(error),
        str(error),
        error.args,
        error.resource,
        error.operation,
        error.provider,
        error.retryable,
        error.maybe_applied,
    )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("through", ["pickle", "copy", "deepcopy"])
def test_each_can_be_copied_whole(kind: type[PortableError], through: str) -> None:
    error = made(kind)
    error.retryable = not error.retryable
    ways: dict[str, Callable[[], PortableError]] = {
        "pickle": lambda: pickle.loads(pickle.dumps(error)),  # noqa: S301 (what worker pools do with it)
        "copy": lambda: copy.copy(error),
        "deepcopy": lambda: copy.deepcopy(error),
    }
    copied = ways[through]()
    assert state(copied) == state(error)
    if isinstance(error, errors.BatchError):
        assert isinstance(copied, errors.BatchError)
        assert state(copied.result.failed[1]) == state(error.result.failed[1])
        assert copied.result.succeeded == ["1"]


def test_an_error_comes_back_from_a_worker_process() -> None:
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as processes:
        with pytest.raises(errors.ConfigError, match="no adapter provides the scheme memry:; did you mean memory:"):
            processes.submit(portable.open_bucket, "memry:").result(timeout=60)


def test_retryable_can_be_said_by_the_one_who_knows_better() -> None:
    assert PortableError("no", retryable=True).retryable
    assert not errors.Throttled("no", retryable=False).retryable
    assert errors.Throttled("no").retryable


def test_no_error_is_outside_of_the_list() -> None:
    inside = {name for name, value in vars(errors).items() if inspect.isclass(value) and issubclass(value, Exception)}
    assert inside == set(errors.__all__)
