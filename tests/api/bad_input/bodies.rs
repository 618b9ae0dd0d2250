//! Bodies that are no JSON, not the JSON that is expected, of another type, or too long.
use reqwest::Method;
use serde_json::json;

use super::{BODY_BYTES_MAX, House};

fn nested(levels: usize) -> String {
    format!("{{\"input\":{}1{}}}", "[".repeat(levels - 1), "]".repeat(levels - 1))
}

#[tokio::test]
async fn a_body_that_is_not_the_json_that_is_expected_is_400_at_every_entrance() {
    let house = House::build().await;
    let deep = nested(65);
    let wide_open = "[".repeat(200_000);
    let bodies: Vec<(&str, &[u8])> = vec![
        ("empty", b""),
        ("blank", b" \n"),
        ("cut off", b"{\"input\": "),
        ("two documents", b"{}{}"),
        ("an array", b"[]"),
        ("null", b"null"),
        ("a text", b"\"input\""),
        ("a number", b"7"),
        ("NaN", b"{\"input\": NaN}"),
        ("Infinity", b"{\"input\": -Infinity}"),
        ("a number beyond doubles", b"{\"input\": 1e999}"),
        ("a leading zero", b"{\"input\": 01}"),
        ("single quotes", b"{'input': 1}"),
        ("a comment", b"{\"input\": 1 /* one */}"),
        ("a trailing comma", b"{\"input\": 1,}"),
        ("a byte order mark", b"\xef\xbb\xbf{\"input\": 1}"),
        ("not UTF-8", b"{\"input\": \"\xff\xfe\"}"),
        ("UTF-16", b"{\0\"\0i\0\"\0:\0\x31\0}\0"),
        ("a lone surrogate", b"{\"input\": \"\\ud800\"}"),
        ("a bare control character", b"{\"input\": \"a\x00b\"}"),
        ("65 levels", deep.as_bytes()),
        ("brackets without end", wide_open.as_bytes()),
        ("an unknown field", b"{\"input\": 1, \"inptu\": 2}"),
        ("a field twice", b"{\"input\": 1, \"input\": 2}"),
        ("form data", b"input=1&name=x"),
    ];
    for (method, path, _, _) in house.entrances() {
        for (what, body) in &bodies {
            let answer = house.send(&method, &path, "application/json", body.to_vec()).await;
            assert_eq!(answer.status, 400, "{what} at {method} {path}: {answer:?}");
            answer.problem(400);
        }
    }
    for (method, path, _, body) in house.entrances() {
        let mut more = body.clone();
        more["colour"] = json!("red");
        let refused = house.send(&method, &path, "application/json", more.to_string()).await;
        assert_eq!(refused.problem(400)["errors"][0]["pointer"], "/colour", "{method} {path}");
        // An input, an output and a configuration may be any JSON; their kind judges them.
        for field in
            body.as_object().unwrap().keys().filter(|field| !["input", "output", "config"].contains(&field.as_str()))
        {
            let mut wrong = body.clone();
            wrong[field] = json!([[1]]);
            let answer = house.send(&method, &path, "application/json", wrong.to_string()).await;
            assert_eq!(answer.status, 400, "{field} at {method} {path}: {answer:?}");
        }
    }
    let attempt = format!("/api/v1/agents/{}/try", house.rules);
    house.send(&Method::POST, &attempt, "application/json", nested(64)).await.expect(200);
    house.is_untouched().await;
}

#[tokio::test]
async fn a_body_of_another_media_type_is_415_at_every_entrance() {
    let house = House::build().await;
    for (method, path, _, body) in house.entrances() {
        for media_type in [
            "",
            "text/plain",
            "application/xml",
            "application/x-www-form-urlencoded",
            "multipart/form-data",
            "application/jsonx",
            "application/json; charset=latin-1",
            "*/*",
            "json",
        ] {
            house.send(&method, &path, media_type, body.to_string()).await.problem(415);
        }
        let untyped = house.admin.request(method.clone(), &path).body(body.to_string());
        house.admin.send(untyped).await.problem(415);
        let packed = house.admin.request(method.clone(), &path).header("content-encoding", "gzip").json(&body);
        house.admin.send(packed).await.problem(415);
    }
    house.is_untouched().await;
}

#[tokio::test]
async fn a_body_one_byte_too_long_is_413_with_and_without_a_length() {
    let house = House::build().await;
    for (method, path, bytes_max, _) in house.entrances() {
        for count in [bytes_max + 1, bytes_max * 2] {
            let padded = format!("{{\"input\":1}}{}", " ".repeat(count - 11));
            house.send(&method, &path, "application/json", padded.clone()).await.problem(413);
            let chunks: Vec<_> =
                padded.as_bytes().chunks(64 * 1024).map(|chunk| Ok::<_, std::io::Error>(chunk.to_vec())).collect();
            let chunked = reqwest::Body::wrap_stream(futures_util::stream::iter(chunks));
            house.send(&method, &path, "application/json", chunked).await.problem(413);
        }
    }
    let fits = format!("{{\"input\":1}}{}", " ".repeat(BODY_BYTES_MAX - 11));
    house
        .send(&Method::POST, &format!("/api/v1/agents/{}/try", house.rules), "application/json", fits)
        .await
        .expect(200);
    house.is_untouched().await;
}
