"""The user's entry script: loaded once, as ParallelRunStep would load it, and what went wrong in it as data.

Runs in the user's Python: CPython 3.9 syntax, standard library only.
"""

from __future__ import annotations

import contextlib
import importlib.machinery
import importlib.util
import inspect
import logging
import os
import sys
import traceback
from typing import TYPE_CHECKING, Any, NamedTuple

from . import frames, working_folder

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

#: Characters of a traceback that are kept: the beginning, where the call is, and the end, where the error is.
_TRACEBACK_HEAD = 4_000
_TRACEBACK_TAIL = 12_000
#: Characters of an error's own text that are kept.
_MESSAGE = 2_000

_log = logging.getLogger("batchmesh")


class Context(NamedTuple):
    """The second argument of run(), for scripts that take it."""

    partition_key_value: dict[str, Any]
    minibatch_index: int
    dataset: Any


class ScriptFailed(Exception):
    """The script could not be loaded, or its init() failed. `failure` is what the job is told."""

    def __init__(self, failure: frames.Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


class OneProcess:
    """Around the user's code: a copy of the worker that the code forked and that comes back out of it ends here.

    It ends as Python would have ended it; else two processes would answer for one worker. The interpreter says when it
    is a copy: to ask the kernel for its number behind each run() would cost a tenth of a short one.
    """

    def __init__(self) -> None:
        self._is_copy = False
        os.register_at_fork(after_in_child=self._copied)

    def _copied(self) -> None:
        self._is_copy = True

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._is_copy:
            return
        status = 0 if error is None else 1
        with contextlib.suppress(BaseException):
            if isinstance(error, SystemExit):
                status = error.code if isinstance(error.code, int) else int(error.code is not None)
            elif kind is not None and error is not None:
                sys.excepthook(kind, error, trace)
        flush_output()
        os._exit(status & 0xFF)


class EntryScript:
    """The loaded script. Each of its functions runs at most where ParallelRunStep would call it."""

    def __init__(self, root: str, script: str) -> None:
        """Loads `script` (relative to the absolute folder `root`) and calls init() if it has one.

        sys.argv is to be set before, for scripts parse it while they are imported. Errors: ScriptFailed.
        """
        self.name = os.path.basename(script)
        self.one_process = OneProcess()
        path = os.path.join(root, script)
        _set_search_path(root, os.path.dirname(path))
        self._guarded("Linking the source's files", lambda: working_folder.fill(os.getcwd(), root))
        module = self._guarded(f"{self.name} cannot be loaded: it", lambda: _load(path))
        self.run: Callable[..., Any] = self._function(module, "run")
        self.takes_context = _takes_two(self.run)
        self._shutdown = getattr(module, "shutdown", None)
        init = getattr(module, "init", None)
        if callable(init):
            self._guarded("init()", init)

    def shutdown(self) -> None:
        """Calls shutdown() if the script has one. Errors: whatever it raises."""
        if callable(self._shutdown):
            with self.one_process:
                self._shutdown()

    def _guarded(self, who: str, work: Callable[[], Any]) -> Any:
        try:
            with self.one_process:
                return work()
        except BaseException as error:  # noqa: BLE001  SystemExit of a user's code is a failure like any other
            raise ScriptFailed(failure_of(frames.Kind.INIT_FAILED, who, error)) from None

    def _function(self, module: Any, name: str) -> Callable[..., Any]:
        function = getattr(module, name, None)
        if not callable(function):
            sentence = f"{self.name} has no {name}(); an entry script needs one."
            raise ScriptFailed(frames.Failure(frames.Kind.INIT_FAILED, sentence))
        found: Callable[..., Any] = function
        return found


def log_beside(level: int, text: str, *values: object) -> None:
    """Logs into the worker's output, if the script has left a way to: it may have closed it or put handlers there."""
    with contextlib.suppress(BaseException):
        _log.log(level, text, *values)


def flush_output() -> None:
    """As above: what the script has printed goes out, if it can."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(BaseException):
            stream.flush()


def failure_of(kind: int, who: str, error: BaseException) -> frames.Failure:
    """The Failure for what `who` raised: one sentence, and the traceback from the user's first frame on."""
    return frames.Failure(kind, f"{who} raised {_described(error)}", user_traceback(error))


def user_traceback(error: BaseException) -> str:
    """The formatted traceback without our own frames at its top, cut in the middle where it is very long."""
    frame = error.__traceback__
    while frame is not None and _is_ours(frame.tb_frame.f_code.co_filename):
        frame = frame.tb_next
    try:
        text = "".join(traceback.format_exception(type(error), error, frame))
    except BaseException as second:  # noqa: BLE001  an error whose own text raises is still an error
        return f"(the traceback of {type(error).__name__} could not be formatted: {type(second).__name__})\n"
    if len(text) <= _TRACEBACK_HEAD + _TRACEBACK_TAIL:
        return text
    return f"{text[:_TRACEBACK_HEAD]}\n    […]\n{text[-_TRACEBACK_TAIL:]}"


def _described(error: BaseException) -> str:
    name = type(error).__name__
    try:
        text = str(error).strip()
    except BaseException:  # noqa: BLE001  as above
        return name
    return f"{name}: {text[:_MESSAGE]}" if text else name


def _is_ours(filename: str) -> bool:
    return filename.startswith((_OURS, "<frozen importlib", "<frozen zipimport"))


#: Where the worker's modules were compiled, which is what frames name; the zip that they come from is elsewhere.
_OURS = os.path.dirname(_is_ours.__code__.co_filename) + os.sep


def _set_search_path(root: str, folder: str) -> None:
    """The source's root and the script's own folder take the place that Python gave to its start-up folder."""
    sys.path[0:1] = [root] if os.path.samefile(root, folder) else [root, folder]


def _load(path: str) -> Any:
    """Imports the file under its own name, so that what it defines can be pickled and found again by its children."""
    name = os.path.splitext(os.path.basename(path))[0]
    if name in sys.modules:
        name = f"{name}_entry_script"
    loader = importlib.machinery.SourceFileLoader(name, path)
    spec = importlib.util.spec_from_file_location(name, path, loader=loader)
    if spec is None:
        raise ImportError(f"{path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    loader.exec_module(module)
    return module


def _takes_two(function: Callable[..., Any]) -> bool:
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return False
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return sum(each.kind in kinds for each in parameters) > 1
