"""N-Caltech101: Caltech101 on a screen, seen by a moving camera."""

from __future__ import annotations

from ... import events
from ...events import Events
from ..error import DataError
from ..files import Files
from ..info import File, Info
from ..registry import data_set
from ..samples import Stored

_ARCHIVE = "n_caltech101/Caltech101.zip"
_CLASSES = (
    "BACKGROUND_Google",
    "Faces_easy",
    "Leopards",
    "Motorbikes",
    "accordion",
    "airplanes",
    "anchor",
    "ant",
    "barrel",
    "bass",
    "beaver",
    "binocular",
    "bonsai",
    "brain",
    "brontosaurus",
    "buddha",
    "butterfly",
    "camera",
    "cannon",
    "car_side",
    "ceiling_fan",
    "cellphone",
    "chair",
    "chandelier",
    "cougar_body",
    "cougar_face",
    "crab",
    "crayfish",
    "crocodile",
    "crocodile_head",
    "cup",
    "dalmatian",
    "dollar_bill",
    "dolphin",
    "dragonfly",
    "electric_guitar",
    "elephant",
    "emu",
    "euphonium",
    "ewer",
    "ferry",
    "flamingo",
    "flamingo_head",
    "garfield",
    "gerenuk",
    "gramophone",
    "grand_piano",
    "hawksbill",
    "headphone",
    "hedgehog",
    "helicopter",
    "ibis",
    "inline_skate",
    "joshua_tree",
    "kangaroo",
    "ketch",
    "lamp",
    "laptop",
    "llama",
    "lobster",
    "lotus",
    "mandolin",
    "mayfly",
    "menorah",
    "metronome",
    "minaret",
    "nautilus",
    "octopus",
    "okapi",
    "pagoda",
    "panda",
    "pigeon",
    "pizza",
    "platypus",
    "pyramid",
    "revolver",
    "rhino",
    "rooster",
    "saxophone",
    "schooner",
    "scissors",
    "scorpion",
    "sea_horse",
    "snoopy",
    "soccer_ball",
    "stapler",
    "starfish",
    "stegosaurus",
    "stop_sign",
    "strawberry",
    "sunflower",
    "tick",
    "trilobite",
    "umbrella",
    "watch",
    "water_lilly",
    "wheelchair",
    "wild_cat",
    "windsor_chair",
    "wrench",
    "yin_yang",
)


@data_set(
    Info(
        name="n-caltech101",
        title="8,709 recordings of Caltech101's photographs by a camera in three saccades, up to 240x180",
        kind="events",
        splits={"all": 8709},
        classes=_CLASSES,
        licence="see its page",
        citation="Orchard et al., Converting static image datasets to spiking neuromorphic datasets, 2015",
        homepage="https://www.garrickorchard.com/datasets/n-caltech101",
        files=(
            File(
                name=_ARCHIVE,
                addresses=(
                    "https://data.mendeley.com/public-files/datasets/cy6cvx3ryv/files/"
                    "36b5c52a-b49d-4853-addb-a836a8883e49/file_downloaded",
                ),
                md5="66201824eabb0239c7ab992480b50ba3",
                unpacked="Caltech101",
            ),
        ),
    )
)
class NCaltech101(Stored):
    """Sample: `Events` of 240x180, about 300 ms. Label: the class, 0 to 100, in the order of the folders.

    The pictures have many sizes and lie in the upper left. Its authors publish no split.
    """

    def __init__(self, info: Info, split: str, files: Files) -> None:
        super().__init__(info, split)
        self._tree = files.tree(_ARCHIVE)
        labels = {name: label for label, name in enumerate(_CLASSES)}
        self._rows = []
        for name in self._tree.below("Caltech101/", ".bin"):
            folder = name.split("/")[1]
            if folder not in labels:
                raise DataError(f"{self._tree.root}: {name} is in no class of N-Caltech101; get it again")
            self._rows.append((name, labels[folder]))

    def __len__(self) -> int:
        return len(self._rows)

    def item(self, index: int) -> tuple[Events, int]:
        """Return a recording and its class."""
        name, label = self._rows[index]
        with self._tree.path(name) as path:
            return events.read(path, format="nmnist", width=240, height=180), label
