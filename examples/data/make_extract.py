"""Make ``us_employment.parquet`` from the CSV form of the same data.

Run ``python make_extract.py us_employment.csv.gz``. The input has the columns ``unique_id, ds, y, Title`` (the long
form in which this data set is passed around); README.md beside this file says where it comes from.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet

SOURCE = "U.S. Bureau of Labor Statistics, Current Employment Statistics (public domain)"


def read_long_csv(path: Path) -> pa.Table:
    """Read the CSV (plain or gzip) and give it this repository's column names and types, in a fixed order."""
    raw = pyarrow.csv.read_csv(path)
    table = pa.table(
        {
            "series_id": raw["unique_id"],
            "title": raw["Title"],
            "month": pc.cast(raw["ds"], pa.date32()),
            "value": pc.cast(raw["y"], pa.float64()),
        }
    )
    table = table.filter(pc.is_valid(table["value"]))
    return table.sort_by([("series_id", "ascending"), ("month", "ascending")])


def write_extract(table: pa.Table, path: Path) -> None:
    """Write ``table`` with its source in the schema's metadata, so that the file explains itself."""
    described = table.replace_schema_metadata({"source": SOURCE, "unit": "thousands of persons, not adjusted"})
    pyarrow.parquet.write_table(
        described,
        path,
        compression="zstd",
        compression_level=19,
        use_dictionary=["series_id", "title"],
        column_encoding={"month": "DELTA_BINARY_PACKED", "value": "BYTE_STREAM_SPLIT"},
    )


def main() -> None:
    """Parse the arguments, convert, and say what was written."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("csv", type=Path, help="us_employment.csv or us_employment.csv.gz")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("us_employment.parquet"))
    arguments = parser.parse_args()
    table = read_long_csv(arguments.csv)
    write_extract(table, arguments.out)
    series = len(pc.unique(table["series_id"]))
    print(f"{arguments.out}: {series} series, {table.num_rows:,} months, {arguments.out.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
