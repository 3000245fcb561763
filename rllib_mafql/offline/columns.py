"""Columns of a row group as NumPy arrays and back, and which values they may hold."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

# float32 arithmetic may leave [-1, 1] by that much.
ACTION_TOLERANCE = 1e-5


class RecordingError(ValueError):
    """Recorded data cannot be used; the message says what is wrong, where, and what to do."""


def allowed(column: str, values: np.ndarray, *, action: bool = False, first_row: int = 0) -> np.ndarray:
    """`values` (T,) or (T, k) as float32.

    Raises:
        RecordingError: A value is no finite number or, for an action, outside of [-1, 1]; names column and row.
    """
    values = np.asarray(values, np.float32)
    good = np.isfinite(values)
    wrong = "not a finite number"
    if action and good.all():
        good = np.abs(values) <= 1.0 + ACTION_TOLERANCE
        wrong = "outside of [-1, 1]"
    if not good.all():
        place = np.argwhere(~good)[0]
        component = f", component {place[1]}" if len(place) > 1 else ""
        raise RecordingError(
            f"column {column!r}, row {first_row + place[0]}{component}: {values[tuple(place)]:.7g} is {wrong}"
        )
    return values


def values_of(table: pa.Table, column: str) -> np.ndarray:
    """A column of T rows without nulls: (T,), or the k values of each list one after the other, (T * k,); read-only.

    Raises:
        RecordingError: A value is missing; names column and row.
    """
    array = _whole(table, column)
    if array.null_count:
        row = int(np.argmax(array.is_null().to_numpy(zero_copy_only=False)))
        raise RecordingError(f"column {column!r}, row {row}: there is no value")
    if pa.types.is_fixed_size_list(array.type):
        size, array = array.type.list_size, array.flatten()
        if array.null_count:
            place = int(np.argmax(array.is_null().to_numpy(zero_copy_only=False)))
            raise RecordingError(f"column {column!r}, row {place // size}, component {place % size}: there is no value")
    return array.to_numpy(zero_copy_only=False)


def last_list(table: pa.Table, column: str, size: int) -> np.ndarray:
    """The list (size,) in the last row of a column that is null in all others.

    Raises:
        RecordingError: Another row has a value, or the last has none or one of another length.
    """
    array = _whole(table, column)
    given = array.is_valid().to_numpy(zero_copy_only=False)
    if not given[-1] or given[:-1].any():
        row = len(given) - 1 if not given[-1] else int(np.argmax(given))
        has = "has no value" if not given[-1] else "has a value"
        raise RecordingError(
            f"the rows are not one fragment: column {column!r}, row {row} {has}, but exactly the last row should"
        )
    values = array[-1].values
    if len(values) != size or values.null_count:
        raise RecordingError(f"column {column!r}, row {len(given) - 1}: expected {size} numbers, got {len(values)}")
    return values.to_numpy(zero_copy_only=False)


def texts_of(table: pa.Table, column: str) -> list[str]:
    """A column of T strings, plain or dictionary-encoded.

    Raises:
        RecordingError: A value is missing; names column and row.
    """
    array = _whole(table, column)
    if not pa.types.is_dictionary(array.type):
        array = array.dictionary_encode()
    if array.null_count:
        row = int(np.argmax(array.is_null().to_numpy(zero_copy_only=False)))
        raise RecordingError(f"column {column!r}, row {row}: there is no value")
    names = array.dictionary.to_pylist()
    return [names[i] for i in array.indices.to_numpy()]


def only_text(table: pa.Table, column: str) -> str:
    """The string that all rows of a column share.

    Raises:
        RecordingError: They do not; names column and row.
    """
    texts = texts_of(table, column)
    for row, text in enumerate(texts):
        if text != texts[0]:
            raise RecordingError(
                f"the rows are not one fragment: column {column!r}, row {row} is {text!r} after {texts[0]!r}"
            )
    return texts[0]


def constant(text: str, rows: int) -> pa.Array:
    """A dictionary-encoded column of the same string."""
    return pa.DictionaryArray.from_arrays(pa.array(np.zeros(rows, np.int32)), pa.array([text], pa.string()))


def lists(values: np.ndarray) -> pa.Array:
    """(T, k) float32 as a column of fixed-size lists."""
    return pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), values.shape[1])


def list_at_end(values: np.ndarray, rows: int) -> pa.Array:
    """A column of lists, null but for the last row, which is `values` (k,) float32."""
    offsets = np.zeros(rows + 1, np.int32)
    offsets[-1] = len(values)
    mask = np.arange(rows) < rows - 1
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(values), mask=pa.array(mask))


def _whole(table: pa.Table, column: str) -> pa.Array:
    chunks = table.column(column)
    return chunks.chunk(0) if chunks.num_chunks == 1 else pa.concat_arrays(chunks.unify_dictionaries().chunks)
