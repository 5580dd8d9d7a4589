"""TFRecord files: whole records or none, whatever was damaged."""

import gzip
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datasets_io.errors import Corrupt, UnknownName, UserError
from datasets_io.storage.tfrecord import frame, masked_crc, read_records

RECORDS = [b"first", b"", b"the third one"]
OFFSETS = [0, 21, 37]  # 16 bytes of frame each


@pytest.fixture
def write(tmp_path):
    def file(data):
        path = tmp_path / "x.tfrecord"
        path.write_bytes(data)
        return path

    return file


def read(path, **options):
    """What comes out, and what is reported."""
    reported = []
    records = list(read_records(path, lambda offset, reason: reported.append((offset, reason)), **options))
    return records, reported


def test_the_crc_is_the_format_s():
    # CRC-32C of "123456789" is by definition 0xE3069283; rotated by 15, and 0xA282EAD8 added, by hand.
    assert masked_crc(b"123456789") == 0xC78AB0E5


def test_a_missing_package_is_named(write, monkeypatch):
    monkeypatch.setitem(sys.modules, "google_crc32c", None)
    with pytest.raises(UserError, match="need the package google-crc32c"):
        read(write(b"x" * 20))


def test_a_record_is_framed_as_tensorflow_does():
    record = frame(b"abc")
    assert record[:8] == b"\x03" + bytes(7)
    assert record[8:12] == masked_crc(record[:8]).to_bytes(4, "little")
    assert record[12:15] == b"abc"
    assert record[15:] == masked_crc(b"abc").to_bytes(4, "little")


def test_records_come_back_with_their_offsets(write):
    path = write(b"".join(map(frame, RECORDS)))
    assert list(read_records(path)) == list(zip(OFFSETS, RECORDS, strict=True))
    assert list(read_records(str(path))) == list(read_records(path))
    assert list(read_records(write(b""))) == []


@given(st.data())
def test_a_flipped_bit_costs_its_record_and_no_other_is_changed(tmp_path_factory, data):
    whole = b"".join(map(frame, RECORDS))
    place = data.draw(st.integers(0, len(whole) - 1))
    bit = data.draw(st.integers(0, 7))
    path = tmp_path_factory.getbasetemp() / "flipped.tfrecord"
    path.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << bit]) + whole[place + 1 :])
    hit = max(number for number, offset in enumerate(OFFSETS) if offset <= place)
    records, reported = read(path)
    in_length = place - OFFSETS[hit] < 12
    left = [number for number in range(3) if number < hit or (number > hit and not in_length)]
    assert records == [(OFFSETS[number], RECORDS[number]) for number in left]
    assert [offset for offset, _ in reported] == [OFFSETS[hit]]
    with pytest.raises(Corrupt, match=f"flipped.tfrecord is damaged at byte {OFFSETS[hit]}"):
        list(read_records(path))


def test_a_file_cut_anywhere_gives_the_records_before_the_cut(write):
    whole = b"".join(map(frame, RECORDS))
    for length in range(len(whole)):
        records, reported = read(write(whole[:length]))
        complete = sum(stop <= length for stop in [*OFFSETS[1:], len(whole)])
        assert records == list(zip(OFFSETS, RECORDS, strict=True))[:complete]
        at_an_end = length in OFFSETS
        assert [offset for offset, _ in reported] == ([] if at_an_end else [OFFSETS[complete]])


def test_reasons_say_what_is_wrong(write):
    record = frame(b"some data")
    wrong_length = (2**40).to_bytes(8, "little")
    cases = {
        record[:7]: "ends 7 bytes into a record's header of 12",
        record[:20]: "a record of 9 bytes begins here, but only 4 follow",
        record[:-1] + b"x": "CRC of the record's 9 bytes of data is wrong",
        wrong_length + record[8:]: "length is wrong: 25 bytes, to the end of the file, are not read",
        wrong_length + masked_crc(wrong_length).to_bytes(4, "little"): "1,099,511,627,776 bytes begins here",
        gzip.compress(record): "It is gzip: unpack it first",
    }
    for data, reason in cases.items():
        with pytest.raises(Corrupt, match=reason) as caught:
            list(read_records(write(data)))
        assert caught.value.exit_code == 3


def test_a_record_that_is_too_large_is_left_out_and_the_next_one_is_read(write):
    records, reported = read(write(b"".join(map(frame, RECORDS))), limit=10)
    assert records == list(zip(OFFSETS, RECORDS, strict=True))[:2]
    ((offset, reason),) = reported
    assert offset == OFFSETS[2]
    assert "13 bytes" in reason


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(UnknownName, match=r"none\.tfrecord"):
        list(read_records(tmp_path / "none.tfrecord"))
