//! Counts and times requests, and shows every metric of the process to Prometheus on a listener of its own.
//!
//! The listener is apart from the API's so that the numbers need no token and never meet the outside by accident.
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::{Server, ServiceRequest, ServiceResponse};
use actix_web::http::Method;
use actix_web::middleware::{Next, from_fn};
use actix_web::{App, Error, HttpResponse, HttpServer, web};
use metrics::{Unit, counter, describe_counter, describe_histogram, histogram};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};

use super::describe::describe;
use super::headers::secure;

const REQUESTS: &str = "marvin_http_requests_total";
const DURATION: &str = "marvin_http_request_duration_seconds";

/// Upper bounds in seconds: from an answer out of memory to the 5 s that a query may wait for its view, and twice that.
const DURATION_BUCKETS_S: [f64; 12] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 10.0];

/// How often samples are folded into their histograms when nobody scrapes: they would pile up otherwise.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);

/// Connections to the metrics listener: a scraper or two, and nothing that could starve the API.
const CONNECTIONS_MAX: usize = 16;

/// The media type of Prometheus' text format.
const EXPOSITION: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Installs the recorder of this process. Without it, every measurement is dropped at no cost.
///
/// # Errors
/// When there is a recorder already.
pub fn install() -> Result<PrometheusHandle, BuildError> {
    let handle = builder()?.install_recorder()?;
    describe_counter!(REQUESTS, "Requests answered, by method, route pattern and status.");
    describe_histogram!(DURATION, Unit::Seconds, "Time from a request's head to its answer's head.");
    Ok(handle)
}

fn builder() -> Result<PrometheusBuilder, BuildError> {
    PrometheusBuilder::new().set_buckets_for_metric(Matcher::Full(DURATION.to_owned()), &DURATION_BUCKETS_S)
}

/// Binds the metrics listener. The returned server runs once it is awaited or spawned, and stops with its handle.
///
/// Call it within a Tokio runtime: the upkeep of the histograms runs there until the runtime ends.
///
/// # Errors
/// When `listen` cannot be bound.
pub fn listener(listen: SocketAddr, handle: PrometheusHandle) -> io::Result<(SocketAddr, Server)> {
    tokio::spawn(keep_up(handle.clone()));
    let exposition = move || {
        let text = handle.render();
        async move { HttpResponse::Ok().content_type(EXPOSITION).body(text) }
    };
    let app = move || {
        let resource = web::resource("/metrics").get(exposition.clone()).head(exposition.clone());
        App::new().wrap(from_fn(describe)).wrap(from_fn(secure)).service(resource)
    };
    let server = HttpServer::new(app).workers(1).max_connections(CONNECTIONS_MAX).disable_signals().bind(listen)?;
    let bound = server.addrs()[0];
    Ok((bound, server.run()))
}

async fn keep_up(handle: PrometheusHandle) {
    let mut ticks = tokio::time::interval(UPKEEP_INTERVAL);
    loop {
        ticks.tick().await;
        handle.run_upkeep();
    }
}

/// The middleware that measures. It belongs outermost, so that refusals by the others count.
///
/// Labels are bounded: a route is its pattern in the table, and what no route matches is `unmatched`.
///
/// # Errors
/// What came from below.
pub async fn measure(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let started = Instant::now();
    let method = method_label(request.method());
    let route = request.match_pattern().unwrap_or_else(|| "unmatched".to_owned());
    let answered = next.call(request).await;
    let status = match &answered {
        Ok(response) => response.status(),
        Err(error) => error.as_response_error().status_code(),
    };
    counter!(REQUESTS, "method" => method, "route" => route.clone(), "status" => status.as_str().to_owned())
        .increment(1);
    histogram!(DURATION, "method" => method, "route" => route).record(started.elapsed());
    Ok(answered?.map_into_boxed_body())
}

/// Clients may invent methods; a label must not grow with them.
fn method_label(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::test::{TestRequest, init_service, try_call_service};

    #[actix_web::test]
    async fn requests_are_counted_by_method_route_and_status() {
        let recorder = builder().unwrap().build_recorder();
        let _guard = metrics::set_default_local_recorder(&recorder);
        let app = App::new()
            .wrap(from_fn(describe))
            .wrap(from_fn(measure))
            .service(web::resource("/agents/{id}").get(async || "an agent"))
            .route("/panic", web::get().to(async || -> String { panic!("a bug") }));
        let app = init_service(app).await;
        for (method, path) in
            [("GET", "/agents/1"), ("GET", "/agents/2"), ("BREW", "/agents/3"), ("GET", "/x"), ("GET", "/panic")]
        {
            let request = TestRequest::with_uri(path).method(method.parse().unwrap()).to_request();
            let _ = try_call_service(&app, request).await;
        }
        let text = recorder.handle().render();
        for line in [
            r#"marvin_http_requests_total{method="GET",route="/agents/{id}",status="200"} 2"#,
            r#"marvin_http_requests_total{method="other",route="/agents/{id}",status="405"} 1"#,
            r#"marvin_http_requests_total{method="GET",route="unmatched",status="404"} 1"#,
            r#"marvin_http_requests_total{method="GET",route="/panic",status="500"} 1"#,
            r#"marvin_http_request_duration_seconds_count{method="GET",route="/agents/{id}"} 2"#,
            r#"marvin_http_request_duration_seconds_bucket{method="GET",route="/agents/{id}",le="10"} 2"#,
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
    }

    #[actix_web::test]
    async fn the_listener_answers_metrics_and_nothing_else() {
        let recorder = builder().unwrap().build_recorder();
        metrics::with_local_recorder(&recorder, || counter!("marvin_events_total").increment(3));
        let (bound, server) = listener("127.0.0.1:0".parse().unwrap(), recorder.handle()).unwrap();
        let handle = server.handle();
        actix_web::rt::spawn(server);
        let get = async |path: &str| reqwest::get(format!("http://{bound}{path}")).await.unwrap();
        let metrics = get("/metrics").await;
        assert_eq!(metrics.headers()["content-type"], EXPOSITION);
        assert!(metrics.text().await.unwrap().contains("marvin_events_total 3"));
        assert_eq!(get("/").await.status().as_u16(), 404);
        assert_eq!(get("/healthz").await.headers()["content-type"], "application/problem+json");
        let head = reqwest::Client::new().head(format!("http://{bound}/metrics")).send().await.unwrap();
        assert_eq!((head.status().as_u16(), head.bytes().await.unwrap().len()), (200, 0));
        handle.stop(false).await;
    }
}
