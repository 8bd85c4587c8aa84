"""The command `unveil`: picks a sub-command, prints a user's error as one line, exits with code 2."""

import importlib
import io
import os
import sys
import warnings
from collections.abc import Sequence

from unveil import __version__
from unveil.errors import UserError, UserInputWarning, is_text
from unveil.host_memory import keep_freed_memory
from unveil.locks import claims_end_here
from unveil.one_voice import is_said_here, tell_launcher
from unveil.terminal import one_line, printable

COMMANDS = {
    "demo": "align the shipped model from human ratings of film reviews: the whole path in minutes on a CPU",
    "train": "align a model from thumbs up/down, pairs or lists (ELBO-KTO, VRPO, ...)",
    "inspect": "is it sound? `inspect data FILE` lists all faults of a file at once",
    "objectives": "the preference objectives, their data, arguments and papers",
    "plan": "what a training run will cost: tokens, FLOP, memory, hours, without loading weights",
    "sft": "masked-diffusion fine-tuning, or training from scratch",
    "generate": "answers to prompts, by unmasking",
    "chat": "talk with a model in the terminal",
    "compare": "win rate of one model against another on the same prompts",
    "report": "several runs on one page: win rates, reward curves, likelihoods, cost",
    "reference": "score the reference model once, into a cache for train",
    "merge": "one model from LoRA adapters and their base, and what rounding took",
    "likelihood": "ELBO of answers, with standard errors",
    "evaluate": "benchmarks by lm-eval: likelihoods by ELBO, answers by unmasking, with standard errors",
    "matrix": "methods x starts x data sizes x seeds x tasks from one file: resumable runs, one table",
    "variance": "how much estimates vary by draw design and combiner on your model and data; recommends one",
}

_LONGEST = 300  # characters of a library's message

# What an interrupted command leaves behind, and how to go on; others leave nothing that matters.
_KEPT = {
    "compare": "answers in --output_dir are used again with --resume, replies of an endpoint in any case",
    "evaluate": "the same command with the same --output_dir goes on",
    "matrix": "the same command goes on",
    "reference": "the same command goes on",
}


def usage() -> str:
    """The text of `unveil --help`."""
    lines = "\n".join(f"  {name:<11} {what}" for name, what in COMMANDS.items())
    return (
        f"unveil {__version__}: preference alignment for diffusion language models\n\n"
        f"usage: unveil COMMAND [flags]\n\ncommands:\n{lines}\n\n"
        "`unveil COMMAND --help` tells the flags of a command."
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code (0 done, 2 bad input, 130 or 143 interrupted)."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(usage())
        return 0
    if arguments[0] in ("-V", "--version"):
        print(__version__)
        return 0
    command = arguments[0]
    if command not in COMMANDS:
        print(f"unveil: error: no command {command!r}; choose one of {', '.join(COMMANDS)}", file=sys.stderr)
        return 2
    broken = next((word for word in arguments if not is_text(word)), None)
    if broken is not None:
        print(f"unveil {command}: error: {broken!a}: is not UTF-8 text; write it anew", file=sys.stderr)
        return 2
    _quiet_libraries()
    keep_freed_memory()
    _print_in_any_encoding()
    try:
        with warnings.catch_warnings(), claims_end_here():
            warnings.showwarning = _show_warning
            code = importlib.import_module(f"unveil.cli.{command}").main(arguments[1:]) or 0
            sys.stdout.flush()  # a full disk is to be told here, not after the end
            return code
    except UserError as error:
        return _failed(f"unveil {command}: error: {one_line(str(error))}")
    except BrokenPipeError:  # the reader of a pipe has seen enough
        _let_stdout_go()
        return 141
    except OSError as error:
        return _failed(f"unveil {command}: error: {one_line(_told(error))}")
    except KeyboardInterrupt as stop:  # a command that knows more than `_KEPT` says it, with an exit code
        told = str(stop) or f"interrupted; {_KEPT.get(command, 'run it again')}"
        _say_once(f"unveil {command}: {one_line(told)}")
        return getattr(stop, "code", 130)


def _failed(line: str) -> int:
    """Tell an error here and, under a launcher, where that looks for it; returns the exit code."""
    _say_once(line)
    tell_launcher(line)
    return 2


def _say_once(line: str) -> None:
    """One of the processes of a run says what they all have to say."""
    if is_said_here(line):
        print(line, file=sys.stderr)


def _told(error: OSError) -> str:
    """Where, what, remedy, of a file system that refuses."""
    if error.errno is None:  # a library's own words
        return " ".join(str(error).split())[:_LONGEST] or type(error).__name__
    if error.filename:
        return f"{error.filename}: {error.strerror}; check the path and the disk"
    where = "" if _stdout_can_be_written() else "standard output: "
    return f"{where}{error.strerror}; make room or check the disk"


def _stdout_can_be_written() -> bool:
    try:
        sys.stdout.flush()
    except OSError:
        _let_stdout_go()
        return False
    return True


def _let_stdout_go() -> None:
    """Nothing more is printed, and what waits to be is dropped: else Python fails with it at the very end."""
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except io.UnsupportedOperation:  # no real file
        sys.stdout = io.StringIO()


def _print_in_any_encoding() -> None:
    """A character that the terminal's encoding lacks is escaped; an answer is not lost for it."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _quiet_libraries() -> None:
    """Libraries may warn, but not chat."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    # Before torch is loaded: threads that wait for one another may spin for some microseconds; spinning for long, which
    # is the default, is many times slower on busy cores, and sleeping at once is slower on idle ones.
    os.environ.setdefault("GOMP_SPINCOUNT", "20000")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("DATASETS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    if not sys.stderr.isatty():
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")


def _show_warning(message, category, filename, lineno, file=None, line=None) -> None:
    """Our own warnings as one line; of other libraries only what is meant for users."""
    if issubclass(category, UserInputWarning):
        _say_once(f"unveil: warning: {one_line(str(message))}")
    elif not issubclass(category, (DeprecationWarning, FutureWarning, PendingDeprecationWarning)):
        _say_once(f"{category.__name__}: {printable(str(message))}")


if __name__ == "__main__":
    sys.exit(main())
