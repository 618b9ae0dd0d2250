use super::*;
use crate::log::{NewEvent, StreamAppend};
use marvin_domain::AggregateKind;

fn command(id: u128, streams: &[u128], bytes: usize) -> Waiting {
    let event = || NewEvent {
        event_id: Uuid::now_v7(),
        event_type: "submitted",
        event_version: 1,
        payload: vec![0; bytes],
        metadata: String::new(),
    };
    let append = |id: &u128| StreamAppend {
        stream: StreamId { kind: AggregateKind::Task, id: Uuid::from_u128(*id) },
        expected: 0,
        events: vec![event()],
    };
    let streams = streams.iter().map(append).collect();
    Waiting { append: Append { command_id: Uuid::from_u128(id), digest: None, streams }, reply: oneshot::channel().0 }
}

fn batches(commands: impl IntoIterator<Item = Waiting>) -> Vec<Vec<u128>> {
    let mut waiting: VecDeque<_> = commands.into_iter().collect();
    let mut batches = Vec::new();
    while !waiting.is_empty() {
        batches.push(gather(&mut waiting).iter().map(|waiting| waiting.append.command_id.as_u128()).collect());
    }
    batches
}

#[test]
fn strangers_share_a_batch() {
    assert_eq!(batches([command(1, &[10], 1), command(2, &[20], 1), command(3, &[30], 1)]), [[1, 2, 3]]);
}

#[test]
fn a_batch_holds_one_command_a_stream_and_nobody_is_overtaken() {
    let commands = [command(1, &[10], 1), command(2, &[10, 20], 1), command(3, &[20], 1), command(4, &[30], 1)];
    assert_eq!(batches(commands), [vec![1, 4], vec![2], vec![3]]);
}

#[test]
fn a_batch_holds_one_command_of_an_id() {
    assert_eq!(batches([command(1, &[10], 1), command(1, &[20], 1), command(2, &[30], 1)]), [vec![1, 2], vec![1]]);
}

#[test]
fn a_batch_ends_at_its_limits_and_holds_one_command_at_least() {
    let many = batches((0..BATCH_COMMANDS_MAX as u128 + 1).map(|id| command(id, &[id], 1)));
    assert_eq!(many.iter().map(Vec::len).collect::<Vec<_>>(), [BATCH_COMMANDS_MAX, 1]);
    let heavy = batches((0..3).map(|id| command(id, &[id], BATCH_BYTES_MAX / 2 + 1)));
    assert_eq!(heavy, [[0], [1], [2]]);
    assert_eq!(batches([command(1, &[1], BATCH_BYTES_MAX * 2)]), [[1]]);
}
