"""Which families of changes a configuration trains on."""

from pneumosearch.config import TrialConfig
from pneumosearch.data.families import FAMILIES, FAMILY_OF, trained_families


def test_published_network_trains_on_geometry_alone() -> None:
    assert trained_families(TrialConfig()) == {"geometry"}
    assert not trained_families(TrialConfig(zoom=0.0, vertical_flip=False))


def test_each_field_adds_its_family() -> None:
    still = TrialConfig(zoom=0.0, vertical_flip=False)
    assert trained_families(still.model_copy(update={"brightness": 0.1})) == {"exposure"}
    assert trained_families(still.model_copy(update={"contrast": 0.1, "rotation": 5.0})) == {"tone", "geometry"}
    others = {
        "gamma": "tone",
        "crop_area": "geometry",
        "blur": "resolution",
        "noise": "compression",
        "erase": "borders",
    }
    for name, family in others.items():
        assert trained_families(still.model_copy(update={name: 0.1})) == {family}
    assert trained_families(still.model_copy(update={"erase": 0.1, "noise": 0.1})) == {"borders", "compression"}
    assert not trained_families(still.model_copy(update={"mixup": 0.4}))
    assert set(FAMILY_OF.values()) <= set(FAMILIES)
    assert FAMILY_OF.keys() <= TrialConfig.model_fields.keys()
