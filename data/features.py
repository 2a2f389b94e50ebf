"""What an example of every data set here consists of."""

import tensorflow_datasets as tfds


def segmentation_info(
    builder: tfds.core.DatasetBuilder, class_names: tuple[str, ...], description: str
) -> tfds.core.DatasetInfo:
    """A builder and its classes -> the information that TFDS writes beside the shards.

    An example is {image: [H, W, 3] uint8 RGB, label: [H, W, 1] uint8 class ids or 255, id: text}.
    The class names are read back from `builder.info.metadata["class_names"]`.
    """
    return tfds.core.DatasetInfo(
        builder=builder,
        description=description,
        features=tfds.features.FeaturesDict(
            {
                "image": tfds.features.Image(shape=(None, None, 3), encoding_format="jpeg"),
                "label": tfds.features.Image(shape=(None, None, 1), encoding_format="png"),
                "id": tfds.features.Text(),
            }
        ),
        metadata=tfds.core.MetadataDict({"class_names": list(class_names)}),
    )
