"""What a person at the terminal sees beside progress: tables, errors in a line."""

import contextlib
import sys
import traceback
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import tensorflow as tf
from absl import app, flags, logging
from ml_collections import config_flags

from evaluation.protocol import parse_scales

flags.disclaim_key_flags()  # What is defined here belongs to the program, in --help too.


def define_config(default: str) -> flags.FlagHolder:
    """Defines --config, and --config.FIELD for every field. A misspelt one is a line and an exit.

    default: `FILE.py:ARGUMENT`, whose get_config(ARGUMENT) gives the config.
    """
    with _mistakes_in_a_line():  # Fields are looked for as soon as the flag is defined.
        return config_flags.DEFINE_config_file(
            "config",
            default,
            "FILE.py:ROW or FILE.py:ROW@SCALE; then its fields, as --config.FIELD=VALUE.",
        )


class InferenceFlags(NamedTuple):
    """The flags that eval.py and export.py share."""

    run: flags.FlagHolder
    output_stride: flags.FlagHolder
    scales: flags.FlagHolder
    flip: flags.FlagHolder
    data_dir: flags.FlagHolder


def define_inference_flags() -> InferenceFlags:
    """Defines the flags that eval.py and export.py share."""
    return InferenceFlags(
        flags.DEFINE_string(
            "run",
            None,
            "Run folder, or a third-party checkpoint (docs/pretrained.md).",
            required=True,
        ),
        flags.DEFINE_integer("output_stride", None, "Default: the run's setting."),
        flags.DEFINE_list(
            "scales", None, "Image scales, e.g. 0.5,1,1.5. Default: the run's setting."
        ),
        flags.DEFINE_bool(
            "flip",
            None,
            "Average predictions over the image and its horizontal flip. Default: the run's "
            "setting.",
        ),
        flags.DEFINE_string(
            "data_dir", None, "TFDS data directory. Default: ~/tensorflow_datasets."
        ),
    )


def inference_from_flags(given: InferenceFlags, own: Mapping[str, Any]) -> dict[str, Any]:
    """The run's own inference settings -> the same, but for the flags that were given."""
    scales = None if given.scales.value is None else parse_scales(given.scales.value)
    flagged = {
        "output_stride": given.output_stride.value,
        "scales": scales,
        "flip": given.flip.value,
    }
    return {**own, **{name: value for name, value in flagged.items() if value is not None}}


def run_program(main: Callable[[Any], None], *, takes_arguments: bool = False) -> None:
    """Parses the flags and runs main; what the user can mend is one line, not a traceback.

    takes_arguments: whether there may be more than flags. `--verbosity=1` shows the traceback of an
    error in main too.
    """

    def parse(arguments: list[str]) -> list[str]:
        with _mistakes_in_a_line():
            return flags.FLAGS(arguments)

    def guarded(arguments: list[str]) -> None:
        if len(arguments) > 1 and not takes_arguments:
            sys.exit(f"error: unexpected {' '.join(arguments[1:])!r}; see --help.")
        if logging.get_verbosity() == logging.INFO:  # absl's choice where the user made none.
            logging.set_verbosity(logging.ERROR)  # TFDS warns of every data set not built yet.
        try:
            main(arguments)
        except (ValueError, OSError, tf.errors.OpError) as error:
            logging.debug(traceback.format_exc())
            sys.exit(f"error: {error}")
        except KeyboardInterrupt:
            print("\nStopped.", file=sys.stderr)
            sys.exit(130)

    app.run(guarded, flags_parser=parse)


@contextlib.contextmanager
def _mistakes_in_a_line():
    """What ml_collections raises for a wrong field, or a config file for a wrong row."""
    try:
        yield
    except flags.Error as error:  # A wrong row comes as a traceback in the text.
        message = str(error).strip().splitlines()[-1].strip().removeprefix("ValueError: ")
        sys.exit(f"error: {message.removesuffix('.')}; see --help.")
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        cause = error
        while isinstance(cause.args[0], Exception):  # It wraps one in another.
            cause = cause.args[0]
        sys.exit(f"error: no such field in --config: {cause.args[0]}")
