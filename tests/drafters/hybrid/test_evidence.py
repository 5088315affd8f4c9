"""Evidence of several sources, joined; and how it is graded."""

import numpy as np

from dresd_milvus.drafters.hybrid.evidence import GRADE_TABLE, GRADES, KINDS, Evidence, Kind


def test_parts_are_joined_in_their_order_and_padded() -> None:
    text = Evidence.of(Kind.TEXT, np.array([[1, 2, 3]], np.int32), 4)
    dense = Evidence.of(
        Kind.DENSE, np.array([[5], [6]], np.int32), np.array([0, 500], np.int32), np.array([0.5, 1.0]), np.array([7, 8])
    )
    joined = Evidence.join([text, Evidence.none(), dense])
    assert joined.rows.tolist() == [[1, 2, 3], [5, -1, -1], [6, -1, -1]]
    assert joined.kinds.tolist() == [Kind.TEXT, Kind.DENSE, Kind.DENSE]
    assert joined.quality.tolist() == [4, 0, 127] and joined.weights.tolist() == [1.0, 0.5, 1.0]
    assert joined.places.tolist() == [-1, 7, 8]
    for part in (joined, text, Evidence.none(), Evidence.join([])):
        assert [array.dtype for array in part] == [np.int32, np.int8, np.int32, np.float64, np.int64]


def test_grades_rise_with_what_matches() -> None:
    assert len(GRADE_TABLE) == KINDS and GRADE_TABLE.min() >= 0 and GRADE_TABLE.max() < GRADES
    exact = GRADE_TABLE[Kind.TEXT].astype(int)
    assert (np.diff(exact, axis=0) >= 0).all() and (np.diff(exact, axis=1) >= 0).all()
    assert set(GRADE_TABLE[Kind.DENSE, :, 0]) & set(GRADE_TABLE[Kind.DENSE, :, 5]) == set(), "depths are told apart"
