// The API's answers (docs/api.md), as the page's sources name them. Read by the type checker only; never served.

/** An RFC 3339 instant in UTC. */
export type Instant = string;
/** An exact decimal number; never turned into a float but for pixels. */
export type Decimal = string;

export type FreshState = "live" | "late" | "finished";

export interface Source {
  topic: string;
  clock: Instant | null;
  age_seconds: number | null;
  lag_records: number | null;
}

export interface Fresh {
  state: FreshState;
  as_of: Instant;
  age_seconds: number;
  exact_until: Instant | null;
  next_until: Instant | null;
  next_due: Instant | null;
  sources: Source[];
}

export interface Payments {
  currency: string;
  sum: Decimal;
  count: number;
  revision?: number;
}

export interface Clicks {
  kind: string;
  count: number;
  products_clicked?: number;
  revision?: number;
}

/** What happened in a window, of a store or of all (`stores`, `items_sold` without distinct products). */
export interface Window {
  start: Instant;
  end: Instant;
  closed: boolean;
  revision?: number;
  stores?: number;
  payments: Payments[];
  sales?: { items_sold: number; products_sold: number; revision: number } | null;
  items_sold?: number;
  clicks: Clicks[];
}

export interface Sums {
  payments: Payments[];
  items_sold: number;
  clicks: Clicks[];
}

export interface Store {
  store: string;
  as_of: Instant;
  product_count: number;
  today: { date: string; timezone: string; from: Instant; complete: boolean; closed: Sums; open: Sums };
  newest_closed_window: Window | null;
  fresh: Fresh;
}

export interface WindowList {
  as_of: Instant;
  windows: Window[];
  next_cursor: string | null;
}

export interface StoreList {
  as_of: Instant;
  stores: string[];
  next_cursor: string | null;
}

export interface Top {
  as_of: Instant;
  window: { start: Instant; end: Instant; closed: boolean };
  measure: string;
  stores: { rank: number; store: string; value: Decimal }[];
}

export interface Topic extends Source {
  records: number;
  dead_letters: number;
}

export interface Status {
  job: string;
  generation: number;
  served_from: "memory" | "redis" | "files";
  as_of: Instant;
  frontier: Instant | null;
  frontier_age_seconds: number | null;
  window_seconds: number;
  grace_seconds: number;
  retention_seconds: number;
  timezone: string;
  scale: number;
  fresh: Fresh;
  checkpoint: { committed: Instant; age_seconds: number; total: number } | null;
  topics: Topic[];
  dead_letters: { reason: string; count: number }[];
  late_contributions: number;
  corrections: number;
  stale_changes: number;
  processes: { process: number; state: string; reported: Instant; age_seconds: number }[];
}
