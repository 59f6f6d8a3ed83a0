"""storeflow against DuckDB: same machine, same files, same numbers, in turns.

  clicks    per store, kind and window: count(*), and count(distinct product_id)
  payments  per store, currency and window: sum and count over the latest row of every key; deleted rows left out,
            counts_when respected

DuckDB reads the files with two threads into a table in memory, with explicit column types and nothing else to do. Where
there are several ways to write a query, all are tried first and the fastest one is measured. storeflow is timed as a
whole process, `run --workers 2`: all updates in order, history files, the view dumped and synced.

Before anything is timed both must give the same rows (storeflow's by `export --format csv`). Retention must be at
least as long as the dataset, or cells that expired would be missing: the job files made here see to that.
Exit code 1: the numbers differ.
"""

import argparse
import csv
import decimal
import io
import pathlib
import re
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

import duckdb

THREADS = 2
WINDOW_MS = 30 * 60 * 1000


def quoted(path):
    return "'" + str(path).replace("'", "''") + "'"


def typed(fields):
    """A `columns` argument or the like: {'name': 'TYPE', ...}."""
    return "{" + ", ".join(f"'{name}': '{kind}'" for name, kind in fields.items()) + "}"


def clicks_queries(files, distinct):
    columns = {"store_id": "VARCHAR", "event_type": "VARCHAR", "event_time": "BIGINT"}
    measure = "count(*) AS clicks"
    if distinct:
        columns["product_id"] = "VARCHAR"
        measure += ", count(DISTINCT product_id) AS products"
    window = f"event_time // {WINDOW_MS} * {WINDOW_MS}"
    typed_read = f"read_json({files}, format='newline_delimited', columns={typed(columns)})"
    objects = (
        "(SELECT json->>'store_id' AS store_id, json->>'event_type' AS event_type, (json->>'event_time')::BIGINT AS event_time"
        f", json->>'product_id' AS product_id FROM read_ndjson_objects({files}))"
    )
    group = "store_id, event_type, {window} AS w, {measure} FROM {source} GROUP BY ALL"
    return {
        name: "SELECT " + group.format(window=window, measure=measure, source=source)
        for name, source in [("read_json with columns", typed_read), ("read_ndjson_objects", objects)]
    }


def payments_queries(files, statuses):
    row = (
        "STRUCT(payment_id BIGINT, store_id VARCHAR, status VARCHAR, amount DECIMAL(18,2), currency VARCHAR, paid_at BIGINT)"
    )
    columns = {
        "op": "VARCHAR",
        "before": "STRUCT(payment_id BIGINT)",
        "after": row,
        "source": 'STRUCT(file VARCHAR, pos BIGINT, "row" BIGINT)',
    }
    # Tombstones are JSON nulls, which read as rows of nulls.
    changes = f"read_json({files}, format='newline_delimited', columns={typed(columns)}) WHERE op IS NOT NULL"
    key = "coalesce(after.payment_id, before.payment_id)"
    number = "split_part(source.file, '.', 2)::INT"
    place = f"({number}, source.pos, source.row)"
    # The same order as one number: 2^70 and 2^12 leave room for every position and row there can be here.
    packed = f"({number}::HUGEINT * 1180591620717411303424 + source.pos::HUGEINT * 4096 + source.row)"

    def arg_max(order):
        newest = f"SELECT arg_max({{'op': op, 'after': after}}, {order}) AS l FROM {changes} GROUP BY {key}"
        return f"SELECT unnest(l.after) FROM ({newest}) WHERE l.op <> 'd'"

    row_number = (
        f"SELECT unnest(after) FROM (SELECT op, after FROM {changes} QUALIFY row_number() OVER (PARTITION BY {key} "
        f"ORDER BY {number} DESC, source.pos DESC, source.row DESC) = 1) WHERE op <> 'd'"
    )
    latest = {
        "arg_max by (file, pos, row)": arg_max(place),
        "arg_max by one number": arg_max(packed),
        "row_number": row_number,
    }
    groups = (
        f"SELECT store_id, currency, paid_at // {WINDOW_MS * 1000} * {WINDOW_MS} AS w, sum(amount) AS total, count(*) AS payments "
        f"FROM latest WHERE status IN ({', '.join(map(quoted, statuses))}) GROUP BY ALL"
    )
    return {name: f"WITH latest AS ({query}) {groups}" for name, query in latest.items()}


class Duck:
    """One query, into a table of its own; a new database every time."""

    def run(self, query):
        connection = duckdb.connect(config={"threads": THREADS})
        began, cpu = time.perf_counter(), time.process_time()
        connection.execute(f"CREATE TABLE result AS {query}")
        return (time.perf_counter() - began, time.process_time() - cpu), connection

    def fastest(self, queries):
        times = {name: min(self.run(query)[0][0] for _ in range(2)) for name, query in queries.items()}
        for name, seconds in times.items():
            print(f"  duckdb, {name}: {seconds:.2f} s")
        return queries[min(times, key=times.get)]


def children_cpu():
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


class Storeflow:
    def __init__(self, binary, job, dataset, folder):
        self.binary, self.folder = binary, folder
        self.command = [binary, "run", "--job", job, "--replay", dataset, "--data-dir", folder, "--workers", str(THREADS)]

    def run(self):
        # Each run begins with an empty folder, as removing the last run's files is no part of the work.
        shutil.rmtree(self.folder, ignore_errors=True)
        began, cpu = time.perf_counter(), children_cpu()
        done = subprocess.run(self.command, capture_output=True, text=True, check=False)
        seconds = (time.perf_counter() - began, children_cpu() - cpu)
        if done.returncode != 0:
            sys.exit(f"storeflow failed:\n{done.stderr}")
        plain = re.sub(r"\x1b\[[0-9;]*m", "", done.stderr)
        fields = re.findall(r"(\w+)=(\S+)", [line for line in plain.splitlines() if "finished" in line][-1])
        return seconds, dict(fields)

    def export(self, table):
        command = [self.binary, "export", "--data-dir", self.folder, "--table", table, "--format", "csv"]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        return csv.DictReader(io.StringIO(done.stdout))


def millis(text):
    """RFC 3339 or milliseconds, as milliseconds."""
    if text.isdigit():
        return int(text)
    import datetime

    return int(datetime.datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp() * 1000)


def same(what, mine, theirs):
    mine, theirs = sorted(mine), sorted(theirs)
    if mine == theirs:
        print(f"  the same {len(mine)} rows")
        return
    differing = sorted(set(mine) ^ set(theirs))[:10]
    sys.exit(f"{what}: {len(mine)} rows of storeflow, {len(theirs)} of duckdb; among the differing ones\n  " + "\n  ".join(map(str, differing)))


def job_for(source, folder, name, change=lambda text: text):
    """The dataset's job with everything kept, under a name of its own."""
    text = change(re.sub(r'^retention = .*$', 'retention = "8760h"', source.read_text(), flags=re.M))
    path = folder / f"{name}.toml"
    path.write_text(text)
    return path


def compare(name, storeflow, query, table, mine, theirs, bytes_read, pairs):
    duck = Duck()
    storeflow.run()
    _, connection = duck.run(query)
    same(name, map(mine, storeflow.export(table)), map(theirs, connection.execute("FROM result").fetchall()))
    connection.close()
    times = []
    for _ in range(pairs):
        seconds, said = storeflow.run()
        times.append((seconds, duck.run(query)[0]))
    def median(of):
        return statistics.median(map(of, times))

    ratio = median(lambda pair: pair[1][0] / pair[0][0])
    cpu_ratio = median(lambda pair: pair[1][1] / pair[0][1])
    ours, our_cpu = median(lambda pair: pair[0][0]), median(lambda pair: pair[0][1])
    ducks, duck_cpu = median(lambda pair: pair[1][0]), median(lambda pair: pair[1][1])
    changes = int(said["records"]) - int(said.get("skipped", 0))
    result = {"what": name, "storeflow_s": ours, "duckdb_s": ducks, "ratio": ratio, "changes": changes, "bytes": bytes_read}
    result |= {"storeflow_cpu": our_cpu, "duckdb_cpu": duck_cpu, "cpu_ratio": cpu_ratio}
    if int(said.get("rows_kept", 0)):
        result["state"] = int(said["row_bytes"]) / int(said["rows_kept"])
    for at, ((one, cpu), (other, other_cpu)) in enumerate(times, 1):
        print(f"  pair {at}: storeflow {one:.2f} s ({cpu:.2f} CPU), duckdb {other:.2f} s ({other_cpu:.2f} CPU)")
    return result


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clicks", type=pathlib.Path, help="dataset of clicks (storeflow generate --topics clicks)")
    parser.add_argument("--payments", type=pathlib.Path, help="dataset of payments without kcat envelopes (--topics payments --bare)")
    parser.add_argument("--binary", type=pathlib.Path, required=True, help="the storeflow program, a release build")
    parser.add_argument("--pairs", type=int, default=5, help="measurements of each, in turns (default 5)")
    args = parser.parse_args()
    if not (args.clicks or args.payments):
        parser.error("name --clicks, --payments or both")
    results = []
    with tempfile.TemporaryDirectory(prefix="storeflow-compare-") as temporary:
        folder = pathlib.Path(temporary)

        def inputs(dataset, topic):
            files = sorted((dataset / topic).glob("*.ndjson"))
            return "[" + ", ".join(quoted(file) for file in files) + "]", sum(file.stat().st_size for file in files)

        if args.clicks:
            files, size = inputs(args.clicks, "mall.clicks")
            for distinct in (False, True):
                name = f"clicks, {'with' if distinct else 'without'} distinct products"
                print(name)
                setting = f"distinct = {str(distinct).lower()}"
                job = job_for(args.clicks / "mall.toml", folder, f"clicks-{distinct}", lambda text: re.sub(r"distinct = \w+", setting, text))
                storeflow = Storeflow(args.binary, job, args.clicks, folder / "data")
                query = Duck().fastest(clicks_queries(files, distinct))

                def ours(row):
                    products = (int(row["products_clicked"]),) if distinct else ()
                    return (row["store_id"], row["kind"], millis(row["window_start"]), int(row["clicks"]), *products)

                results.append(compare(name, storeflow, query, "store_clicks", ours, tuple, size, args.pairs))
        if args.payments:
            name = "payments, latest row per key"
            print(name)
            files, size = inputs(args.payments, "mall.payments")
            job = job_for(args.payments / "mall.toml", folder, "payments")
            statuses = re.findall(r'"(\w+)"', re.search(r"counts_when = \{ status = \[(.*?)\]", job.read_text()).group(1))
            storeflow = Storeflow(args.binary, job, args.payments, folder / "data")
            query = Duck().fastest(payments_queries(files, statuses))

            def ours(row):
                window = millis(row["window_start"])
                return (row["store_id"], row["currency"], window, decimal.Decimal(row["payment_sum"]), int(row["payment_count"]))

            results.append(compare(name, storeflow, query, "store_payments", ours, tuple, size, args.pairs))
    print(f"\nstoreflow {args.binary}, duckdb {duckdb.__version__}, {THREADS} threads each, medians of {args.pairs} pairs")
    print(
        f"{'':<36} {'storeflow':>10} {'CPU':>7} {'MB/s':>6} {'changes/s':>10} {'duckdb':>8} {'CPU':>7} {'MB/s':>6} "
        f"{'of duckdb':>10} {'by CPU':>7}"
    )
    for one in results:
        speed = [one["bytes"] / 1e6 / one[side] for side in ("storeflow_s", "duckdb_s")]
        print(
            f"{one['what']:<36} {one['storeflow_s']:>8.2f} s {one['storeflow_cpu']:>5.2f} s {speed[0]:>6.0f} "
            f"{one['changes'] / one['storeflow_s']:>10.0f} {one['duckdb_s']:>6.2f} s {one['duckdb_cpu']:>5.2f} s {speed[1]:>6.0f} "
            f"{one['ratio']:>10.2f} {one['cpu_ratio']:>7.2f}"
        )
        if "state" in one:
            print(f"{'':<36} latest-row state: {one['state']:.0f} bytes per row kept")
    print("of duckdb: speed of storeflow over that of DuckDB, median over the pairs; 1.00 is as fast. by CPU: the same for processor time")


if __name__ == "__main__":
    main()
