"""Every builder passes TFDS's own tests of builders, on small originals made here."""

import pathlib
import shutil
import tempfile
from unittest import mock

import tensorflow_datasets as tfds

from data import shapes
from data.cityscapes import Cityscapes
from data.coco_voc21 import CocoVoc21
from data.shapes import Shapes
from data.voc2012 import Voc2012
from tests.cityscapes_test import make_cityscapes
from tests.coco_voc21_test import make_coco
from tests.conftest import make_vocdevkit


class Originals(tfds.testing.DatasetBuilderTestCase):
    """Makes the originals before TFDS looks for them."""

    MOCK_OUT_FORBIDDEN_OS_FUNCTIONS = False  # Originals are on a disk; shards may be anywhere.

    @classmethod
    def setUpClass(cls):
        cls.EXAMPLE_DIR = tempfile.mkdtemp()
        cls.make(pathlib.Path(cls.EXAMPLE_DIR))
        super().setUpClass()

    @classmethod
    def tearDownClass(cls):
        super().tearDownClass()
        shutil.rmtree(cls.EXAMPLE_DIR)


class Voc2012Test(Originals):
    DATASET_CLASS = Voc2012
    SPLITS = {"train": 2, "val": 2, "trainval": 4, "trainaug": 4}
    OVERLAPPING_SPLITS = ["trainval", "trainaug"]
    make = staticmethod(make_vocdevkit)


class CocoVoc21Test(Originals):
    DATASET_CLASS = CocoVoc21
    BUILDER_CONFIG_NAMES_TO_TEST = ["summed"]
    SPLITS = {"val": 2}
    make = staticmethod(make_coco)


class CityscapesTest(Originals):
    DATASET_CLASS = Cityscapes
    SPLITS = {"train_fine": 2, "val_fine": 1, "train_coarse": 1}
    make = staticmethod(make_cityscapes)


class ShapesTest(Originals):
    DATASET_CLASS = Shapes
    SPLITS = {"train": 3, "val": 2}

    @classmethod
    def make(cls, _):
        few = mock.patch.object(shapes, "NUM_IMAGES", cls.SPLITS)
        few.start()
        cls.addClassCleanup(few.stop)


del Originals  # Itself no test.
