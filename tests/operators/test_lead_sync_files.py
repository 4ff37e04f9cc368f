from __future__ import annotations

import gzip
import io
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from airflow_provider_popin.client.errors import PopinInputError
from airflow_provider_popin.operators import _leads_from_files as files
from airflow_provider_popin.operators._leads_from_files import (
    LeadFileError,
    check_path,
    leads_from_file,
    rows_from_csv,
    rows_from_json_lines,
)
from airflow_provider_popin.sync.source.unreadable import UnreadableRow

NAME = "/data/leads.csv"


class SmallReads(io.BytesIO):
    """Gives three bytes at a time, as a slow network may."""

    def read(self, size: int | None = -1, /) -> bytes:
        return super().read(3)


def read_csv(content: bytes | str) -> list[object]:
    raw = content.encode() if isinstance(content, str) else content
    return [plain(row) for row in rows_from_csv(SmallReads(raw), NAME)]


def read_json_lines(content: bytes | str) -> list[object]:
    raw = content.encode() if isinstance(content, str) else content
    return [plain(row) for row in rows_from_json_lines(SmallReads(raw), NAME)]


def plain(row: object) -> object:
    return row.reason.value if isinstance(row, UnreadableRow) else row


class TestCsv:
    def test_rows_are_mappings_of_text(self) -> None:
        assert read_csv("Id,Name\n1,Ann Example\n2,\n") == [
            {"Id": "1", "Name": "Ann Example"},
            {"Id": "2", "Name": ""},
        ]

    def test_byte_order_mark_line_ends_and_quotes(self) -> None:
        content = b'\xef\xbb\xbfId,Note\r\n1,"a, ""b""\r\nc"\r\n\r\n2,x'
        assert read_csv(content) == [{"Id": "1", "Note": 'a, "b"\r\nc'}, {"Id": "2", "Note": "x"}]

    def test_a_row_with_another_number_of_fields_is_never_shifted(self) -> None:
        rows = read_csv("Id,Name,Mobile\n1,Ann\n2,Example, Bob,+1\n3,Cy,+2\n")
        assert rows == ["row_too_short", "row_too_long", {"Id": "3", "Name": "Cy", "Mobile": "+2"}]

    def test_columns_without_a_name_are_left_out(self) -> None:
        assert read_csv("Id,, \n1,2,3\n") == [{"Id": "1"}]

    def test_damage_within_one_line_costs_one_row(self) -> None:
        rows = read_csv('Id,Name\n1,"a"b\n2,x\n3,\x00\n4,"y"\n')
        assert rows == ["csv_malformed", {"Id": "2", "Name": "x"}, "nul_byte", {"Id": "4", "Name": "y"}]

    def test_a_carriage_return_inside_a_line_costs_one_row(self) -> None:
        assert read_csv("Id,Name\n1,a\rb\n2,x\n") == ["csv_malformed", {"Id": "2", "Name": "x"}]

    @pytest.mark.parametrize("line_end", ["", "\n", "\r\n"])
    def test_a_field_is_as_long_as_a_line_may_be(self, line_end: str) -> None:
        """In an export of long notes nothing behind the first 128 KiB of one may pass for a row."""
        note = f"{'x' * 200_000}{line_end}3,z{line_end}"
        rows = read_csv(f'Id,Note\n1,"{note}"\n2,y\n')
        assert rows == [{"Id": "1", "Note": note}, {"Id": "2", "Note": "y"}]

    @pytest.mark.parametrize("quotes", ['"b"c,"d', '"b"c"e,"d', '"b" ,"d'])
    def test_what_follows_an_open_quote_is_no_row(self, quotes: str) -> None:
        with pytest.raises(LeadFileError, match=r"line 3: the quotes .* do not match") as error:
            read_csv(f'Id,Name,Note\n1,a,b\n2,{quotes}\n3,c,d\n4",e,f\n')
        assert error.value.line == 3

    @pytest.mark.parametrize("quotes", ['"b"c,d', '"b"c,"d"', '"b"c"e,d'])
    def test_a_misplaced_quote_costs_one_row(self, quotes: str) -> None:
        rows = read_csv(f"Id,Name,Note\n1,{quotes}\n3,c,d\n")
        assert rows == ["csv_malformed", {"Id": "3", "Name": "c", "Note": "d"}]

    def test_a_quote_that_is_not_closed_is_an_error_for_the_file(self) -> None:
        """Otherwise the rows behind it would be lost without a trace."""
        with pytest.raises(LeadFileError, match=r"leads\.csv, line 3: the quotes .* up to line 5") as error:
            read_csv('Id,Name\n1,a\n2,"secret\n3,c\n4,d\n')
        assert error.value.line == 3
        assert "secret" not in str(error.value)

    def test_an_open_quote_in_the_last_line_costs_that_row(self) -> None:
        assert read_csv('Id,Name\n1,a\n2,"b') == [{"Id": "1", "Name": "a"}, "csv_malformed"]

    def test_rows_before_the_damage_are_read(self) -> None:
        rows = rows_from_csv(SmallReads(b'Id\n1\n"2\n3\n'), NAME)
        assert next(rows) == {"Id": "1"}
        with pytest.raises(LeadFileError):
            next(rows)

    @pytest.mark.parametrize("content", ["", "\n\r\n"])
    def test_an_empty_file_is_an_error(self, content: str) -> None:
        with pytest.raises(LeadFileError, match="it is empty"):
            read_csv(content)

    def test_only_a_header_is_no_leads(self) -> None:
        assert read_csv("Id,Name\n") == []

    def test_a_column_name_twice_is_an_error(self) -> None:
        with pytest.raises(
            LeadFileError, match=r"line 1: a name stands twice in the header \(columns 2, 3\)"
        ):
            read_csv("Id,Phone,Phone\n1,2,3\n")

    def test_a_file_without_a_header_shows_nothing_of_its_first_lead(self) -> None:
        with pytest.raises(LeadFileError) as error:
            read_csv("1,Ann,+441632960961,+441632960961\n")
        assert "960961" not in str(error.value)

    @pytest.mark.parametrize("mark", [";", "\t"])
    def test_other_separators_than_commas_are_named(self, mark: str) -> None:
        with pytest.raises(LeadFileError, match="line 1: its fields are separated by something else"):
            read_csv(f"Id{mark}Name\n1{mark}2\n")

    @pytest.mark.parametrize("content", ['"Id";"Name"\n1;2\n', "Id,Name\r1,2\r"])
    def test_a_header_that_is_no_csv_is_told_what_csv_is(self, content: str) -> None:
        with pytest.raises(LeadFileError, match=r"line 1: the header .* than commas, or its lines end"):
            read_csv(content)

    @pytest.mark.parametrize("header", ['Id,"Name\n1,2\n', "Id,Na\0me\n1,2\n"])
    def test_an_unusable_header_is_an_error(self, header: str) -> None:
        with pytest.raises(LeadFileError, match="header"):
            read_csv(header)

    def test_another_encoding_is_an_error_that_names_the_line_and_no_content(self) -> None:
        with pytest.raises(LeadFileError, match="line 3: it is not UTF-8") as error:
            read_csv("Id,Name\n1,a\n2,Zoë\n".encode("latin-1"))
        assert "Zo" not in str(error.value)
        assert (error.value.__cause__, error.value.__suppress_context__) == (None, True)

    @pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be", "utf-16-le"])
    def test_utf_16_is_an_error(self, encoding: str) -> None:
        with pytest.raises(LeadFileError, match="line 1"):
            read_csv("Id,Name\n1,a\n".encode(encoding))

    def test_a_line_without_end_is_an_error(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(files, "MAX_LINE_BYTES", 64)
        with pytest.raises(LeadFileError, match="line 2: a line over"):
            read_csv("Id\n" + "x" * 100)


class TestJsonLines:
    def test_rows_keep_their_types(self) -> None:
        assert read_json_lines('\n{"Id": 1, "Tags": ["a"]}\r\n  \n{"Id": 2.5}') == [
            {"Id": 1, "Tags": ["a"]},
            {"Id": 2.5},
        ]

    @pytest.mark.parametrize(
        ("line", "reason"),
        [
            ('{"Id": 1', "json_malformed"),
            ("[" * 100_000, "json_malformed"),
            ('{"Id": ' + "9" * 5000 + "}", "json_malformed"),
            ("[1]", "json_not_object"),
            ('"text"', "json_not_object"),
            ("null", "json_not_object"),
            ('{"Id": 1, "Id": 2}', "json_duplicate_key"),
            ('{"Id": {"a": 1, "a": 2}}', "json_duplicate_key"),
        ],
    )
    def test_a_line_that_is_no_object_costs_one_row(self, line: str, reason: str) -> None:
        rows = [plain(row) for row in rows_from_json_lines(io.BytesIO(f'{line}\n{{"Id": 2}}'.encode()), NAME)]
        assert rows == [reason, {"Id": 2}]

    @pytest.mark.parametrize(
        "line",
        [
            '[{"Id": 2}, {"Id": 3}]',
            "[",
            '[ {"Id": 2},',
            '{"Id": 2}{"Id": 3}',
            '{"Id": 2}\r{"Id": 3}',
            '{"Id": 2},{',
        ],
    )
    def test_several_objects_in_a_line_are_an_error_for_the_file(self, line: str) -> None:
        """Otherwise a file of ten thousand leads would be one rejected row, and the task green."""
        with pytest.raises(LeadFileError, match=r"line 2: several JSON objects; write one per line"):
            read_json_lines(f'{{"Id": 1}}\n{line}\n')

    @pytest.mark.parametrize("line", ['{"Id": 1} x', '{"Id": 1},', "1 2", "[[1]]"])
    def test_a_line_that_holds_no_other_object_costs_one_row(self, line: str) -> None:
        assert len(read_json_lines(f'{line}\n{{"Id": 2}}')) == 2

    def test_an_empty_file_is_no_leads(self) -> None:
        assert read_json_lines("") == []


class TestFiles:
    @pytest.fixture(params=["leads.csv", "leads.CSV.gz", "leads.jsonl", "leads.ndjson.gz"])
    def path(self, request: pytest.FixtureRequest, tmp_path: Path) -> Path:
        name = str(request.param)
        content = "Id\n1\n2\n" if "csv" in name.lower() else '{"Id": "1"}\n{"Id": "2"}\n'
        raw = content.encode()
        path = tmp_path / name
        path.write_bytes(gzip.compress(raw) if name.endswith(".gz") else raw)
        return path

    def test_the_suffix_tells_the_format(self, path: Path) -> None:
        assert [dict(row) for row in open_leads(path)] == [{"Id": "1"}, {"Id": "2"}]

    def test_the_file_is_closed_when_reading_stops_early(self, path: Path) -> None:
        rows = open_leads(path)
        next(iter(rows))
        rows.close()  # type: ignore[attr-defined]  # a warning about an open file would fail the test

    def test_an_absent_file_is_an_error_with_a_remedy(self, tmp_path: Path) -> None:
        with pytest.raises(LeadFileError, match=r"absent\.csv: No such file or directory\. Check the path"):
            list(open_leads(tmp_path / "absent.csv"))

    def test_a_cut_or_wrong_gzip_is_an_error(self, tmp_path: Path) -> None:
        path = tmp_path / "leads.csv.gz"
        whole = gzip.compress(b"Id\n" + b"1\n" * 1000)
        damaged = whole[:10] + bytes([whole[10] ^ 0b100]) + whole[11:]  # a kind of block that does not exist
        for content in (whole[:-9], damaged, b"Id\n1\n"):
            path.write_bytes(content)
            with pytest.raises(LeadFileError, match="gz: it is no whole gzip file: cut off"):
                list(open_leads(path))

    def test_a_large_file_is_not_held_in_memory(self, tmp_path: Path) -> None:
        import tracemalloc

        path = tmp_path / "leads.jsonl"
        line = json.dumps({"Id": "x" * 1000}) + "\n"
        with path.open("w") as file:
            file.writelines(line for _ in range(20_000))
        tracemalloc.start()
        try:
            assert sum(1 for _ in open_leads(path)) == 20_000
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak < 8 * 1024 * 1024

    @pytest.mark.parametrize(
        "path",
        [
            "/a/b.csv",
            "s3://bucket/b.JSONL",
            "file:///b.ndjson.gz",
            "file://disk@/b.csv",
            "s3://disk@bucket/b.csv",
        ],
    )
    def test_accepted_paths(self, path: str) -> None:
        check_path(path)

    @pytest.mark.parametrize(
        "path",
        [
            "/a/b.xlsx",
            "/a/b",
            "s3://bucket/b.gz",
            "leads.csv",
            "./leads.csv",
            "file://leads.csv",
            "file://disk@data/leads.csv",
            "/a\0/leads.csv",
            "/a\ud800/leads.csv",
        ],
    )
    def test_refused_paths(self, path: str) -> None:
        with pytest.raises(PopinInputError, match="path: must "):
            check_path(path)


def open_leads(path: Path) -> Iterator[dict[str, object]]:
    from airflow.providers.common.compat.sdk import ObjectStoragePath

    return leads_from_file(ObjectStoragePath(str(path)))  # type: ignore[return-value]
