//! postgres-es reads Marvin's log through an SQL view with the columns it expects. What is sealed stays sealed.
use cqrs_es::persist::PersistedEventRepository;
use marvin_domain::StreamId;
use postgres_es::PostgresEventRepository;
use sqlx::PgPool;

use crate::{journal::Journal, support::note};

/// Of the log's table, in the columns of postgres-es.
fn view(instance: &str) -> String {
    format!(
        "CREATE OR REPLACE VIEW {instance}.cqrs_events AS
         SELECT aggregate_type, aggregate_id::text AS aggregate_id, sequence, event_type,
                event_version::text AS event_version, json_build_object('sealed', encode(payload, 'base64')) AS payload,
                metadata
         FROM {instance}.events"
    )
}

/// Reads whole streams through the view, and checks that each event is there once and in order.
pub async fn read_through(pool: &PgPool, instance: &str, streams: &[StreamId], stream_events: u64) {
    sqlx::query(&view(instance)).execute(pool).await.expect("a superuser makes views");
    let repository =
        PostgresEventRepository::new(pool.clone()).with_tables(&format!("{instance}.cqrs_events"), "snapshots");
    for stream in streams {
        let events = repository.get_events::<Journal>(&stream.id.to_string()).await.expect("the view is readable");
        let sequences: Vec<usize> = events.iter().map(|event| event.sequence).collect();
        assert_eq!(sequences, (1..=stream_events as usize).collect::<Vec<_>>());
        for event in &events {
            assert_eq!((event.aggregate_id.as_str(), event.aggregate_type.as_str()), (&*stream.id.to_string(), "task"));
            assert!(event.payload["sealed"].as_str().is_some_and(|sealed| !sealed.is_empty()));
            assert!(event.metadata["correlation"].is_string());
        }
        let last = repository.get_last_events::<Journal>(&stream.id.to_string(), stream_events as usize - 1).await;
        assert_eq!(last.expect("the view is readable").len(), 1);
    }
    note(&format!("PostgresEventRepository read {} streams of {stream_events} events through a view", streams.len()));
}
