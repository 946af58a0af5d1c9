"""The families of architectures that transformers maps to an auto class, by the names in its tables."""

from transformers.models.auto import modeling_auto

from tests.zoo.tiny_configs import reads_text_only

NO_SMALL_CONFIG = {"cohere_compass_text", "fuyu"}
SPEECH = {"whisper"}


def families(table: str) -> dict[str, str]:
    """Return the architecture of each family in one of transformers' tables ("CAUSAL_LM")."""
    names = getattr(modeling_auto, f"MODEL_FOR_{table}_MAPPING_NAMES")
    return {
        family: name if isinstance(name, str) else name[0]
        for family, name in names.items()
        if reads_text_only(family) and family not in NO_SMALL_CONFIG | SPEECH
    }


def base_families(*tables: str) -> dict[str, str]:
    """Return the network without a head of each family in some of transformers' tables."""
    found = {family for table in tables for family in families(table)}
    names = modeling_auto.MODEL_MAPPING_NAMES
    return {
        family: name if isinstance(name, str) else name[0]
        for family, name in names.items()
        if family in found
    }
