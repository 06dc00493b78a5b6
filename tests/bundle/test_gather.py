"""Studies in memory name an image by its column or by its modality."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from mailnet.bundle.requests import gather
from mailnet.data.config import ImageConfig, ModalityConfig, TabularConfig
from mailnet.errors import DataError

PREPROCESSING: dict[str, ModalityConfig] = {
    "left": ImageConfig(column="left_image", size=(16, 16)),
    "age": ImageConfig(column="face", size=(16, 16)),  # named as a column of the table
    "clinical": TabularConfig(kind="tabular", numeric=["age"]),
}
BRIGHT, DARK = np.full((16, 16), 200, np.uint8), np.zeros((16, 16), np.uint8)


def values(studies: Any) -> list[int | None]:
    requests = gather(studies, PREPROCESSING)
    found = [requests.image(number, "left", PREPROCESSING["left"]) for number in range(len(requests.ids))]  # type: ignore[arg-type]
    return [None if image is None else int(image.max()) for image in found]


@pytest.mark.parametrize("form", [list, pd.DataFrame])
def test_an_image_is_named_by_its_column_or_its_modality(form: Any) -> None:
    studies = [{"left": BRIGHT}, {"left_image": BRIGHT}, {"age": 50}, {"left": DARK, "left_image": BRIGHT}]
    assert values(form(studies)) == [200, 200, None, 200]
    assert values(form([{"left": BRIGHT}])) == [200]


def test_a_modality_that_is_called_as_a_column_is_not_its_image() -> None:
    requests = gather([{"left": BRIGHT, "age": 50}], PREPROCESSING)
    assert requests.image(0, "age", PREPROCESSING["age"]) is None  # type: ignore[arg-type]
    assert requests.texts([0], ["age"]) == {"age": ["50"]}


def test_two_columns_of_one_name_are_refused() -> None:
    frame = pd.DataFrame([[50, 60]], columns=["age", "age"])
    with pytest.raises(DataError, match="two columns 'age'"):
        gather(frame, PREPROCESSING)
