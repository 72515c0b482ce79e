"""Judges the incumbents of a run once, outside of its time: by plain validation, and by the battery of crafted shifts.

All sides are judged on the same validation images, each as its own training reads them, in float32, at threshold 0.5.
The peers' training has fractions of grey levels, of which there are no copies: here they are rounded, so that plain
accuracy may differ from that of the race by an image or two.
"""

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import numpy as np

from benchmarks.live_data import Course, linked_name
from benchmarks.live_incumbents import JUDGED, NETWORKS, Incumbent
from benchmarks.live_rows import SUMMARY
from pneumosearch._utils.atomic import write_text
from pneumosearch.data.battery import FAMILY_OF_COPY, battery_copies, judged_images
from pneumosearch.data.manifest import read_manifest
from pneumosearch.data.protocols import SPLIT_SEED, DataSource, ImageSet
from pneumosearch.data.splits import holdout_split, leak_groups
from pneumosearch.inference.predict import PlainNetwork
from pneumosearch.metrics import battery_score, score
from pneumosearch.training.loop import predict

Images = tuple[ImageSet, ImageSet]  # plain, and their copies under the battery, all of one change after the other

_OURS: Final = ".keras"  # end of the name of a network of pneumosearch


def our_images(course: Course, size: int) -> Images:
    """Return the validation images as pneumosearch reads them."""
    source = DataSource(read_manifest(course.images), course.folder / "cache")
    dataset = source.load("holdout", size, battery=True)
    if dataset.battery is None:
        raise AssertionError("the battery was asked for")
    return dataset.evaluation, dataset.battery


def peers_images(course: Course, size: int) -> Images:
    """Return the same validation images as the peers' scripts read them, as (n, size, size) grey levels."""
    from benchmarks.peers.images import arrays, pipeline

    pixels, labels = arrays(course.validation, size)
    grey, labels = pixels[..., 0], labels[:, 0]  # X-rays and phantoms have equal channels
    names = [Path(path).name for path in pipeline(course.validation, size, batch_size=1).file_paths]
    judged = np.flatnonzero(np.isin(names, _names_of_judged(course)))
    copies = battery_copies(grey[judged], "none")
    copied = np.tile(labels[judged], len(copies) // len(judged))
    return ImageSet(grey, labels, np.arange(len(grey))), ImageSet(copies, copied, np.arange(len(copies)))


def _names_of_judged(course: Course) -> list[str]:
    part = read_manifest(course.images).part("development")
    split = holdout_split(part, seed=SPLIT_SEED)
    labels = np.array([image.label for image in part.images], dtype=np.float32)
    judged = judged_images(labels, leak_groups(part), split.validation, len(split.train), seed=SPLIT_SEED)
    return [linked_name(part.images[i]) for i in judged]


class PeersNetwork:
    """A network of the peers' scripts that takes pixels as `training.predict` gives them."""

    def __init__(self, values: dict[str, Any], weights: Path) -> None:
        from benchmarks.peers.network import build_network

        self.size: int = values["image_size"]
        self.model = build_network(values)
        self.model.optimizer.build(self.model.trainable_variables)  # its state is in the file too
        self.model.load_weights(weights)

    def predict_on_batch(self, pixels: Any) -> Any:
        """Return (n, 1) probabilities of (n, size, size, 1) grey levels of 0 to 255."""
        return np.asarray(self.model(np.repeat(pixels.astype(np.float32), 3, axis=-1), training=False))


def figures(network: Any, images: Images) -> dict[str, Any]:
    """Return what a network is worth: accuracy and AUC, the battery's figures, and balanced accuracy by family."""
    plain, copies = images
    scores = score(plain.labels[plain.indices], predict(network, plain))
    truth = copies.labels[: len(copies.labels) // len(FAMILY_OF_COPY)]
    battery = battery_score(truth, predict(network, copies), FAMILY_OF_COPY)
    return {
        "accuracy": scores.accuracy,
        "auc": scores.auc,
        **{name: getattr(battery, name) for name in ("shift_accuracy", "shift_auc", "worst_family")},
        "families": {name: each.accuracy for name, each in battery.families.items()},
    }


def judge(course: Course, folder: Path) -> None:
    """Judge the kept networks of the run in `folder` and write `judged.json` there."""
    incumbents = [Incumbent(**each) for each in json.loads((folder / SUMMARY).read_text())["incumbents"]]
    images: dict[tuple[bool, int], Images] = {}
    worth: dict[str, dict[str, Any]] = {}  # by network, which may lead at several times
    for incumbent in incumbents:
        if incumbent.network in worth:
            continue
        path = folder / NETWORKS / incumbent.network
        ours = path.suffix == _OURS
        network = PlainNetwork(path.read_bytes()) if ours else PeersNetwork(dict(incumbent.values), path)
        if (kind := (ours, network.size)) not in images:
            images[kind] = (our_images if ours else peers_images)(course, network.size)
        worth[incumbent.network] = figures(network, images[kind])
    judged = [{**asdict(each), **worth[each.network]} for each in incumbents]
    write_text(folder / JUDGED, json.dumps(judged, indent=1))


def main() -> None:
    """Judge the run that the arguments name."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--course", type=Path, required=True, help="folder of the race's input files")
    parser.add_argument("--run", type=Path, required=True, help="folder of the run")
    arguments = parser.parse_args()
    judge(Course(arguments.course), arguments.run)


if __name__ == "__main__":
    main()
