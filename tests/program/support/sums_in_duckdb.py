"""Runs the statements of `storeflow ddl duckdb` and compares each table's last rows with `export --history --format csv`.

    sums_in_duckdb.py DDL FOLDER    where FOLDER has <table>.csv; prints one line per table, exits with 1 if sums differ
"""

import csv
import sys
from decimal import Decimal

import duckdb

TABLES = {
    "store_payments": ["payment_sum", "payment_count"],
    "store_sales": ["items_sold", "products_sold"],
    "store_clicks": ["clicks", "products_clicked"],
    "store_products": ["product_count"],
    "late_adjustments": ["sum_delta", "count_delta"],
}

statements, folder = sys.argv[1:]
connection = duckdb.connect()
connection.execute("SET TimeZone = 'UTC'")
with open(statements) as file:
    connection.execute(file.read())
different = False
for table, columns in TABLES.items():
    with open(f"{folder}/{table}.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    expected = [len(rows)] + [sum((Decimal(row[column] or 0) for row in rows), Decimal(0)) for column in columns]
    name = f"storeflow.{table}" if table == "late_adjustments" else f"storeflow.{table}_latest"
    sums = ", ".join(f"coalesce(sum({column}), 0)" for column in columns)
    found = list(connection.execute(f"SELECT count(*), {sums} FROM {name}").fetchone())
    equal = found == expected
    different |= not equal
    print(table, "equal" if equal else "DIFFERENT", found, expected)
kind = connection.execute("SELECT typeof(payment_sum) FROM storeflow.store_payments LIMIT 1").fetchone()[0]
print("payment_sum is", kind)
sys.exit(1 if different else 0)
