"""The command line of the four programs: --config, the flags that they share, errors in a line."""

import contextlib
import difflib
import pathlib
import re
import sys
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from absl import app, flags, logging
from ml_collections import config_flags

from data.terminal import errors_in_a_line, import_tensorflow
from experiments.base import FIELDS, config_value

flags.disclaim_key_flags()  # Flags defined below belong to the program, so that --help shows them.

HELP_FLAGS = {"--help", "-help", "-h", "--helpfull", "--helpshort"}


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


def config_overrides() -> dict[str, Any]:
    """The fields that the command line sets with --config.FIELD, by their dotted names."""
    return config_flags.get_override_values(flags.FLAGS["config"])


def define_run(*, required: bool = True) -> flags.FlagHolder:
    """Defines --run."""
    return flags.DEFINE_string(
        "run",
        None,
        "Run folder, or a third-party checkpoint (docs/pretrained.md).",
        required=required,
    )


def define_checkpoint() -> flags.FlagHolder:
    """Defines --checkpoint; training.checkpoints.load_weights takes its value."""
    return flags.DEFINE_string(
        "checkpoint",
        "last",
        "Weights to use: last; best, of all evaluations during training; or a step that is kept.",
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
    from evaluation.protocol import parse_scales  # It imports TensorFlow.

    values = {
        "output_stride": given.output_stride.value,
        "scales": None if given.scales.value is None else parse_scales(given.scales.value),
        "flip": given.flip.value,
    }
    return {**own, **{name: value for name, value in values.items() if value is not None}}


def parse_flags(*, takes_arguments: bool = False) -> list[str]:
    """Parses the command line -> the program's name and the arguments that are not flags.

    It imports TensorFlow after that, since this takes seconds: a program calls it above its other
    imports. takes_arguments: whether there may be arguments that are not flags.
    """
    if not HELP_FLAGS.isdisjoint(sys.argv):
        print(_help(sys.modules["__main__"].__doc__))
        sys.exit()
    arguments = _parse(sys.argv)
    if len(arguments) > 1 and not takes_arguments:
        sys.exit(f"error: unexpected {' '.join(arguments[1:])!r}; see --help.")
    import_tensorflow()
    return arguments


def run_program(main: Callable[[list[str]], None], arguments: list[str]) -> None:
    """Runs main(arguments); errors that the user can fix are one line, not a traceback.

    arguments: what parse_flags returned. `--verbosity=1` also shows an error's traceback.
    """

    def run_main(arguments: list[str]) -> None:
        if logging.get_verbosity() == logging.INFO:  # absl's default: the user has set none.
            logging.set_verbosity(logging.ERROR)  # TFDS warns of every data set not built yet.
        with errors_in_a_line():
            main(arguments)

    app.run(run_main, flags_parser=lambda _: arguments)


def _help(description):
    """A program's docstring -> that, its flags, and the fields of its config with their values."""
    text = f"{description.strip()}\n\nFlags:\n{flags.FLAGS.main_module_help()}"
    if "config" not in flags.FLAGS:
        return text
    _parse([argument for argument in sys.argv if argument not in HELP_FLAGS])
    fields = [
        f"  --config.{name}={_as_flag(config_value(flags.FLAGS.config, name))}\n    {meaning}"
        for name, meaning in FIELDS.items()
    ]
    return f"{text}\n\nFields of the config, with the values of this one:\n" + "\n".join(fields)


def _as_flag(value):
    """A field's value -> its text on a command line."""
    return str(value).replace(" ", "") if isinstance(value, tuple) else value


def _parse(arguments):
    with _config_errors_in_a_line():
        rest = flags.FLAGS(arguments)
        if "config" in flags.FLAGS:
            flags.FLAGS.config.lock()  # A file that is missing is an error when it is first used.
        return rest


@contextlib.contextmanager
def _config_errors_in_a_line():
    """Errors of ml_collections for a wrong file, row or field of --config -> a line."""
    try:
        yield
    except OSError:
        sys.exit(f"error: there is no such --config; there are {_config_files()}.")
    except flags.Error as error:  # The text holds the traceback of a wrong row's error.
        message = str(error).strip().splitlines()[-1].strip().removeprefix("ValueError: ")
        sys.exit(f"error: {message.removesuffix('.')}; see --help.")
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        sys.exit(f"error: {_wrong_fields() or error}")


def _wrong_fields():
    """The fields on the command line that no config has -> an error with the nearest ones."""
    errors = []
    for argument in sys.argv[1:]:
        if match := re.match(r"--?config\.([\w.]+)", argument):
            field = match[1]
            if field not in FIELDS:
                nearest = " or ".join(f"--config.{each}" for each in nearest_fields(field))
                errors.append(
                    f"--config.{field}: the config has no such field. "
                    + (f"Did you mean {nearest}?" if nearest else "train.py --help lists them.")
                )
    return "\n".join(errors)


def nearest_fields(name: str) -> list[str]:
    """A misspelled field -> the fields that it may mean, the likeliest first, at most three.

    Those with its last part in another group come first, then those that it abbreviates by their
    initials (lr), then similar ones.
    """
    last = name.rpartition(".")[2]
    leaf = {field: field.rpartition(".")[2] for field in FIELDS}
    same = [field for field in FIELDS if leaf[field] == last]
    initials = [
        field for field in FIELDS if "".join(word[0] for word in leaf[field].split("_")) == last
    ]
    similar = difflib.get_close_matches(last, leaf.values(), cutoff=0.6)
    by_name = [field for each in similar for field in FIELDS if leaf[field] == each]
    return list(dict.fromkeys([*same, *initials, *by_name]))[:3]


def _config_files():
    """The files that --config takes, for an error."""
    tables = pathlib.Path(__file__).parent.glob("table[0-9]*.py")
    names = ["protocols", *sorted((path.stem for path in tables), key=lambda name: int(name[5:]))]
    return f"experiments/base.py:SCALE, and with :ROW {', '.join(names)} of experiments/"
