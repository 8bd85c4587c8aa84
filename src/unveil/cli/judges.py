"""`--judge`: a judge of this package by its name, or any other as `module:attribute`."""

import importlib
import os
import sys
from typing import Any

from unveil.errors import UserError
from unveil.judging import Judge, RatingJudge

HUMAN_RATINGS = "human_ratings"


def load_judge(name: str) -> Judge:
    """The judge that `--judge` names.

    `human_ratings` predicts human ratings of film reviews. `module:attribute` is an object with the attributes of
    `unveil.judging.Judge` (`name`, `symmetric`, `compare`), or a class or function that makes one without arguments;
    modules in the working folder are found.

    Raises:
        UserError: no such judge, or what is found is none.
    """
    if name == HUMAN_RATINGS:
        from unveil.demo import human_rating_judge  # scikit-learn, and only needed here

        ratings = human_rating_judge()
        return RatingJudge(ratings.name, ratings.score, ratings.tie_margin, reads="prompt_and_answer")  # type: ignore[arg-type]
    module_name, colon, attribute = name.partition(":")
    if not (colon and module_name and attribute):
        raise UserError(f"--judge {name}: unknown; give {HUMAN_RATINGS}, or module:attribute for a judge of your own")
    found = _attribute(name, module_name, attribute)
    judge: Any = found
    if isinstance(found, type) or (callable(found) and not hasattr(found, "compare")):
        try:
            judge = found()
        except Exception as error:  # code of the user
            raise UserError(f"--judge {name}: calling it raised {_told(error)}; mend it") from error
    missing = [part for part in ("name", "symmetric", "compare") if not hasattr(judge, part)]
    if missing:
        raise UserError(
            f"--judge {name}: a {type(judge).__name__} is no judge, it lacks {', '.join(missing)}; "
            "see unveil.judging.Judge"
        )
    return judge


def _attribute(name: str, module_name: str, attribute: str) -> Any:
    sys.path.insert(0, os.getcwd())
    try:
        return getattr(importlib.import_module(module_name), attribute)
    except ModuleNotFoundError as error:
        raise UserError(f"--judge {name}: no module {error.name}; check the spelling and the working folder") from error
    except AttributeError as error:
        raise UserError(f"--judge {name}: {' '.join(str(error).split())}; check the spelling") from error
    except Exception as error:  # code of the user
        raise UserError(f"--judge {name}: importing {module_name} raised {_told(error)}; mend it") from error
    finally:
        sys.path.remove(os.getcwd())


def _told(error: Exception) -> str:
    return f"{type(error).__name__} ({' '.join(str(error).split())})"
