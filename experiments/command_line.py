"""The command line of the four programs: --config, the flags that they share, errors in a line."""

import contextlib
import sys
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from absl import app, flags, logging
from ml_collections import config_flags

from data.terminal import errors_in_a_line
from evaluation.protocol import parse_scales

flags.disclaim_key_flags()  # Flags defined below belong to the program, so that --help shows them.


class InferenceFlags(NamedTuple):
    """The flags that change how a run predicts."""

    output_stride: flags.FlagHolder
    scales: flags.FlagHolder
    flip: flags.FlagHolder


def define_config(default: str) -> flags.FlagHolder:
    """Defines --config and --config.FIELD for every field; a misspelled field is an error.

    default: `FILE.py:ARGUMENT`, whose get_config(ARGUMENT) gives the config.
    """
    with _config_errors_in_a_line():  # Fields are looked up as soon as the flag is defined.
        return config_flags.DEFINE_config_file(
            "config",
            default,
            "FILE.py:ROW or FILE.py:ROW@SCALE. Override fields with --config.FIELD=VALUE.",
        )


def define_run(*, required: bool = True) -> flags.FlagHolder:
    """Defines --run."""
    return flags.DEFINE_string(
        "run",
        None,
        "Run folder, or a third-party checkpoint (docs/pretrained.md).",
        required=required,
    )


def define_data_dir() -> flags.FlagHolder:
    """Defines --data_dir."""
    return flags.DEFINE_string(
        "data_dir", None, "TFDS data directory. Default: ~/tensorflow_datasets."
    )


def define_output_stride() -> flags.FlagHolder:
    """Defines --output_stride."""
    return flags.DEFINE_integer(
        "output_stride", None, "Output stride of the inference. Default: the run's setting."
    )


def define_inference_flags() -> InferenceFlags:
    """Defines --output_stride, --scales and --flip, for programs that use inference_from_flags."""
    return InferenceFlags(
        define_output_stride(),
        flags.DEFINE_list(
            "scales",
            None,
            "Image scales whose predictions are averaged, e.g. 0.5,1,1.5. Default: the run's "
            "setting.",
        ),
        flags.DEFINE_bool(
            "flip",
            None,
            "Average predictions over the image and its horizontal flip. Default: the run's "
            "setting.",
        ),
    )


def inference_from_flags(given: InferenceFlags, own: Mapping[str, Any]) -> dict[str, Any]:
    """Parsed flags and a run's own inference -> the inference: each flag that is given, else own.

    own may have other fields, such as the split; they are kept. Raises ValueError for bad scales.
    """
    values = {
        "output_stride": given.output_stride.value,
        "scales": None if given.scales.value is None else parse_scales(given.scales.value),
        "flip": given.flip.value,
    }
    return {**own, **{name: value for name, value in values.items() if value is not None}}


def run_program(main: Callable[[Any], None], *, takes_arguments: bool = False) -> None:
    """Parses the flags and runs main; errors that the user can fix are one line, not a traceback.

    takes_arguments: whether there may be arguments that are not flags. `--verbosity=1` also shows
    the traceback of an error in main.
    """

    def parse(arguments: list[str]) -> list[str]:
        with _config_errors_in_a_line():
            return flags.FLAGS(arguments)

    def run_main(arguments: list[str]) -> None:
        if len(arguments) > 1 and not takes_arguments:
            sys.exit(f"error: unexpected {' '.join(arguments[1:])!r}; see --help.")
        if logging.get_verbosity() == logging.INFO:  # absl's default: the user has set none.
            logging.set_verbosity(logging.ERROR)  # TFDS warns of every data set not built yet.
        with errors_in_a_line():
            main(arguments)

    app.run(run_main, flags_parser=parse)


@contextlib.contextmanager
def _config_errors_in_a_line():
    """Errors of ml_collections for a wrong field, or of a config file for a wrong row -> a line."""
    try:
        yield
    except flags.Error as error:  # The text holds the traceback of a wrong row's error.
        message = str(error).strip().splitlines()[-1].strip().removeprefix("ValueError: ")
        sys.exit(f"error: {message.removesuffix('.')}; see --help.")
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        cause = error
        while isinstance(cause.args[0], Exception):  # Errors are wrapped in one another.
            cause = cause.args[0]
        sys.exit(
            f"error: --config has no such field: {cause.args[0]}; experiments/base.py lists them."
        )
