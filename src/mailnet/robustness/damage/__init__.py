"""Natural damage measured: corruptions, a modality missing or another patient's."""
