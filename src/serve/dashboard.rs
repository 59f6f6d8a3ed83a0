//! The dashboard: one page and its assets, out of the binary.
//!
//! ```text
//! dashboard/page/*, OUT_DIR/uplot.* ─ include_bytes! ─► Page: compressed once ─► /, /assets/<version>/<name>
//! ```
//!
//! Upholds: (1) the page asks nothing of any other host, and its content security policy would not let it; (2) all of it, compressed, stays
//! below 150 KB; (3) the version in the assets' addresses is of their contents, so that they may be kept forever, and the page, asked for
//! anew each time, never meets those of another version; (4) all addresses are relative, so that it works below a proxy's path, too.
//! Absent on purpose: keys. The page holds no numbers; it asks the API for them as any other client does.

use axum::Router;

/// `/` and `/assets/…`, open to everybody.
pub fn routes() -> Router {
    #[cfg(feature = "dashboard")]
    return page::routes();
    #[cfg(not(feature = "dashboard"))]
    return absent::routes();
}

#[cfg(feature = "dashboard")]
mod page {
    use std::collections::BTreeMap;
    use std::io::Write;
    use std::sync::LazyLock;

    use axum::Router;
    use axum::extract::Path;
    use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
    use axum::response::{IntoResponse, Response};
    use axum::routing::get;
    use bytes::Bytes;
    use flate2::Compression;
    use flate2::write::GzEncoder;
    use sha2::{Digest, Sha256};

    use crate::serve::problem::{Code, Problem};

    /// The page may load scripts, styles and pictures of its own and ask its own server, and is nobody's frame.
    pub(super) const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                                     base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
    const FOREVER: &str = "public, max-age=31536000, immutable";

    macro_rules! own {
        ($($name:literal)*) => {
            /// Our own files, as they are in `dashboard/page`.
            pub(super) const OWN: &[(&str, &[u8])] = &[$(($name, include_bytes!(concat!("../../dashboard/page/", $name)))),*];
        };
    }
    own! {
        "api.js" "app.js" "cards.js" "certainty.js" "chart.js" "csv.js" "decimal.js" "dom.js" "feed.js" "format.js" "freshness.js" "funnel.js"
        "history.js" "i18n.js" "icon.svg" "messages.js" "overview.js" "search.js" "store.js" "stream.js" "style.css" "table.js" "top.js"
        "windows.js"
    }
    pub(super) const INDEX: &str = include_str!("../../dashboard/page/index.html");
    const UPLOT: &str = include_str!(concat!(env!("OUT_DIR"), "/uplot.js"));
    const UPLOT_STYLE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/uplot.css"));

    /// A file, ready to be sent.
    pub(super) struct File {
        kind: &'static str,
        caching: &'static str,
        /// Of its content, in hexadecimal digits.
        digest: String,
        pub(super) plain: Bytes,
        pub(super) gzip: Bytes,
    }

    /// All there is.
    pub(super) struct Page {
        pub(super) version: String,
        pub(super) index: File,
        pub(super) assets: BTreeMap<&'static str, File>,
    }

    /// Made when it is first asked for; it takes some milliseconds.
    pub(super) static PAGE: LazyLock<Page> = LazyLock::new(|| {
        let uplot = ("uplot.js", format!("{UPLOT}\nexport default uPlot;\n").into_bytes());
        let others = OWN.iter().chain(&[("uplot.css", UPLOT_STYLE)]).map(|(name, content)| (*name, content.to_vec()));
        let assets: BTreeMap<_, _> =
            others.chain([uplot]).map(|(name, content)| (name, File::new(name, FOREVER, content))).collect();
        let digests: String = assets.values().map(|file| file.digest.as_str()).collect();
        let version = digest(digests.as_bytes());
        // The page names all modules at once, lest each be found only in the one before.
        let modules: Vec<_> =
            assets.keys().filter(|name| name.ends_with(".js") && **name != "app.js").map(|name| preload(name)).collect();
        let index = INDEX.replace("MODULES", &modules.join("\n")).replace("/VERSION/", &format!("/{version}/"));
        Page { index: File::new("index.html", "no-cache", index.into_bytes()), version, assets }
    });

    pub(super) fn routes() -> Router {
        Router::new()
            .route("/", get(|headers: HeaderMap| async move { PAGE.index.answer(&headers) }))
            .route("/assets/{version}/{name}", get(asset))
    }

    async fn asset(Path((version, name)): Path<(String, String)>, headers: HeaderMap) -> Response {
        match PAGE.assets.get(name.as_str()).filter(|_| version == PAGE.version) {
            Some(file) => file.answer(&headers),
            None => Problem::new(Code::NotFound, "there is no such file of this version: load the dashboard at \"/\" again")
                .into_response(),
        }
    }

    fn preload(name: &str) -> String {
        format!("<link rel=\"modulepreload\" href=\"assets/VERSION/{name}\">")
    }

    /// The first 64 bits of SHA-256, in hexadecimal digits.
    fn digest(content: &[u8]) -> String {
        Sha256::digest(content).iter().take(8).map(|byte| format!("{byte:02x}")).collect()
    }

    impl File {
        fn new(name: &str, caching: &'static str, plain: Vec<u8>) -> File {
            let kind = match name.rsplit('.').next() {
                Some("html") => "text/html; charset=utf-8",
                Some("css") => "text/css; charset=utf-8",
                Some("svg") => "image/svg+xml",
                _ => "text/javascript; charset=utf-8",
            };
            let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
            let gzip = encoder.write_all(&plain).and_then(|()| encoder.finish()).expect("memory takes all that is written");
            File { kind, caching, digest: digest(&plain), plain: plain.into(), gzip: gzip.into() }
        }

        /// The file, compressed if that is welcome, or that it is what the reader has already.
        pub(super) fn answer(&self, asked: &HeaderMap) -> Response {
            let gzip = accepts_gzip(asked);
            let tag = format!("\"{}{}\"", self.digest, if gzip { "-gzip" } else { "" });
            let known = asked.get_all(header::IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
            let same =
                known.flat_map(|tags| tags.split(',')).any(|one| one.trim().trim_start_matches("W/") == tag || one.trim() == "*");
            let mut response = match same {
                true => StatusCode::NOT_MODIFIED.into_response(),
                false => [(header::CONTENT_TYPE, self.kind)].into_response(),
            };
            let headers = response.headers_mut();
            if !same && gzip {
                headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
            }
            headers.insert(header::ETAG, HeaderValue::try_from(tag).expect("digits and letters"));
            for (name, value) in [
                (header::CACHE_CONTROL, self.caching),
                (header::VARY, "accept-encoding"),
                (header::CONTENT_SECURITY_POLICY, POLICY),
                (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
                (header::REFERRER_POLICY, "no-referrer"),
                (header::X_FRAME_OPTIONS, "DENY"),
            ] {
                headers.insert(name, HeaderValue::from_static(value));
            }
            if !same {
                *response.body_mut() = if gzip { self.gzip.clone() } else { self.plain.clone() }.into();
            }
            response
        }
    }

    /// Whether gzip is named, or anything is, and not refused by a weight of zero.
    fn accepts_gzip(headers: &HeaderMap) -> bool {
        let listed = headers.get_all(header::ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
        listed.flat_map(|value| value.split(',')).any(|one| {
            let (coding, weight) = one.split_once(';').unwrap_or((one, ""));
            let refused = weight.trim().strip_prefix("q=").and_then(|weight| weight.trim().parse::<f32>().ok()) == Some(0.0);
            matches!(coding.trim(), "gzip" | "*") && !refused
        })
    }
}

#[cfg(not(feature = "dashboard"))]
mod absent {
    use axum::Router;
    use axum::http::StatusCode;
    use axum::response::Html;
    use axum::routing::get;

    const PAGE: &str = "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>storeflow</title><h1>No dashboard</h1>\
                        <p>This storeflow was built without the feature \"dashboard\". Its numbers are at <a href=\"/v1/status\">/v1/status</a>, \
                        and <a href=\"/openapi.json\">/openapi.json</a> says where else.</p></html>";

    pub(super) fn routes() -> Router {
        Router::new().route("/", get(|| async { (StatusCode::NOT_FOUND, Html(PAGE)) }))
    }
}

#[cfg(all(test, feature = "dashboard"))]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use axum::body::Body;
    use axum::http::{HeaderMap, HeaderValue, Request, StatusCode, header};
    use axum::response::Response;
    use flate2::read::GzDecoder;
    use tower::ServiceExt;

    use super::page::{INDEX, OWN, PAGE, POLICY};
    use super::routes;

    async fn get(path: &str, headers: &[(header::HeaderName, &str)]) -> Response {
        let mut request = Request::get(path).body(Body::empty()).expect("a request");
        for (name, value) in headers {
            request.headers_mut().insert(name, HeaderValue::from_str(value).expect("a header"));
        }
        routes().oneshot(request).await.expect("an answer")
    }

    async fn body(response: Response) -> Vec<u8> {
        axum::body::to_bytes(response.into_body(), usize::MAX).await.expect("a body").to_vec()
    }

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread().build().expect("a runtime")
    }

    /// What stands between `before` and the next of `ends`.
    fn after<'t>(text: &'t str, before: &'static str, ends: &'static [char]) -> impl Iterator<Item = &'t str> {
        text.split(before).skip(1).filter_map(move |rest| rest.split(ends).next())
    }

    #[test]
    fn page_and_assets_weigh_less_than_150_kilobytes() {
        let weight: usize = PAGE.index.gzip.len() + PAGE.assets.values().map(|file| file.gzip.len()).sum::<usize>();
        assert!(weight < 150 * 1000, "{weight} bytes");
    }

    #[test]
    fn every_file_of_the_folder_is_served_and_every_file_asked_for_is_there() {
        let folder = std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("dashboard/page")).expect("a folder");
        let files = folder.map(|entry| entry.expect("an entry").file_name().into_string().expect("a name"));
        let files: BTreeSet<_> = files.filter(|name| !name.ends_with(".d.ts") && name != "index.html").collect();
        assert_eq!(files, OWN.iter().map(|(name, _)| (*name).to_owned()).collect());

        let mut asked: BTreeSet<&str> = after(INDEX, "=\"assets/VERSION/", &['"']).collect();
        let text = |content: &'static [u8]| std::str::from_utf8(content).expect("text");
        for (_, content) in OWN.iter().filter(|(name, _)| name.ends_with(".js")) {
            asked.extend(after(text(content), "from \"./", &['"']));
        }
        assert!(asked.contains("app.js") && asked.contains("uplot.js") && asked.contains("uplot.css"));
        for name in &asked {
            assert!(PAGE.assets.contains_key(name), "{name} is asked for and not there");
        }
        let unused: Vec<_> = PAGE.assets.keys().filter(|name| !asked.contains(*name)).collect();
        assert!(unused.is_empty(), "{unused:?} are there and not asked for");
    }

    #[test]
    fn nothing_names_another_host() {
        let mut texts = vec![("index.html", INDEX.as_bytes())];
        texts.extend(PAGE.assets.iter().map(|(name, file)| (*name, &file.plain[..])));
        for (name, content) in texts {
            let text = std::str::from_utf8(content).expect("text");
            // The library's first line says in a comment where it is from.
            let text = if name == "uplot.js" {
                text.strip_prefix("/*! https://github.com/leeoniya/uPlot ").expect("its line")
            } else {
                text
            };
            for scheme in ["http://", "https://", "ws://", "wss://", "\"//", "url(", "@import", "importScripts"] {
                // The namespace of pictures is a name, not an address.
                let others = after(text, scheme, &['"', '\'', '`', ')', ' ']).filter(|rest| *rest != "www.w3.org/2000/svg");
                let others: Vec<_> = others.collect();
                assert!(others.is_empty(), "{name} names {scheme}{}", others.concat());
            }
        }
    }

    #[test]
    fn the_page_names_the_assets_of_its_version_which_may_be_kept() {
        runtime().block_on(async {
            let page = get("/", &[]).await;
            assert_eq!(
                (page.status(), &page.headers()["cache-control"]),
                (StatusCode::OK, &HeaderValue::from_static("no-cache"))
            );
            let page = String::from_utf8(body(page).await).expect("text");
            let assets: BTreeSet<_> = after(&page, "=\"assets/", &['"']).collect();
            assert_eq!(assets.len(), PAGE.assets.len());
            for asset in assets {
                let answer = get(&format!("/assets/{asset}"), &[]).await;
                assert_eq!(answer.status(), StatusCode::OK, "{asset}");
                assert_eq!(answer.headers()["cache-control"], "public, max-age=31536000, immutable");
            }
            assert_eq!(get("/assets/0000000000000000/app.js", &[]).await.status(), StatusCode::NOT_FOUND);
            assert_eq!(get(&format!("/assets/{}/none.js", PAGE.version), &[]).await.status(), StatusCode::NOT_FOUND);
        });
    }

    #[test]
    fn what_is_known_is_not_sent_again_and_gzip_only_where_it_is_welcome() {
        runtime().block_on(async {
            let sent = |headers: &HeaderMap| {
                (headers.get("content-encoding").cloned(), headers["etag"].to_str().expect("text").to_owned())
            };
            let plain = get("/", &[]).await;
            let (encoding, plain_tag) = sent(plain.headers());
            assert_eq!(encoding, None);
            let refused = get("/", &[(header::ACCEPT_ENCODING, "br, gzip;q=0")]).await;
            assert_eq!(sent(refused.headers()), (None, plain_tag.clone()));

            let gzip = get("/", &[(header::ACCEPT_ENCODING, "br;q=1, gzip;q=0.8")]).await;
            let (encoding, gzip_tag) = sent(gzip.headers());
            assert_eq!(encoding, Some(HeaderValue::from_static("gzip")));
            assert_ne!(gzip_tag, plain_tag, "a strong tag is of the bytes that are sent");
            let unpacked = std::io::read_to_string(GzDecoder::new(&body(gzip).await[..])).expect("gzip");
            assert_eq!(unpacked.into_bytes(), body(plain).await);

            let known = get("/", &[(header::ACCEPT_ENCODING, "gzip"), (header::IF_NONE_MATCH, &gzip_tag)]).await;
            assert_eq!(known.status(), StatusCode::NOT_MODIFIED);
            assert!(body(known).await.is_empty());
            let other = get("/", &[(header::ACCEPT_ENCODING, "gzip"), (header::IF_NONE_MATCH, &plain_tag)]).await;
            assert_eq!(other.status(), StatusCode::OK);
        });
    }

    #[test]
    fn the_policy_leaves_no_way_out_and_the_page_needs_none() {
        runtime().block_on(async {
            let page = get("/", &[]).await;
            assert_eq!(page.headers()["content-security-policy"], POLICY);
            assert_eq!(page.headers()["x-content-type-options"], "nosniff");
            assert_eq!(page.headers()["referrer-policy"], "no-referrer");
        });
        assert!(
            POLICY.starts_with("default-src 'none'") && POLICY.contains("frame-ancestors 'none'") && !POLICY.contains("unsafe")
        );
        // What the policy would refuse without a word: styles and handlers in the page itself.
        for refused in [" style=", "<style", " onclick=", "javascript:", "<script>"] {
            assert!(!INDEX.contains(refused), "the page has {refused}");
        }
    }
}
