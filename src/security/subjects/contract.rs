//! What every adapter of the port promises. An adapter's tests call `subject_store_contract!` with a way to make an
//! empty store; each function here becomes one of its tests.
use std::sync::Arc;

use uuid::Uuid;

use super::{Checkpoint, Credential, HASH_BYTES, Registration, SessionRow, SubjectStore, SubjectsError};
use crate::security::cipher::{self, Suite};
use crate::security::keyfile::MasterKey;

/// A moment; the store has no clock of its own.
pub const NOW_MS: i64 = 1_790_000_000_000;

pub fn user(n: u128) -> Uuid {
    Uuid::from_u128(n)
}

pub fn session(n: u8, user_id: Uuid) -> SessionRow {
    SessionRow {
        id: Uuid::from_u128(1000 + u128::from(n)),
        user_id,
        token_hash: [n; HASH_BYTES],
        created_at_ms: NOW_MS + i64::from(n),
        expires_at_ms: NOW_MS + 1000 * i64::from(n),
    }
}

pub fn credential(n: u128, user_id: Uuid) -> Credential {
    Credential { id: Uuid::from_u128(2000 + n), user_id, phc: format!("$argon2id${n}"), created_at_ms: NOW_MS }
}

macro_rules! subject_store_contract {
    ($make:path: $($rule:ident),+ $(,)?) => {$(
        #[tokio::test]
        async fn $rule() {
            let (_kept, store) = $make().await;
            crate::security::subjects::contract::$rule(store).await;
        }
    )+};
    ($make:path) => {
        subject_store_contract!($make:
            an_email_is_registered_once,
            an_id_is_registered_for_one_email,
            an_email_is_found_in_any_letter_case,
            two_registrations_at_once_get_one_row,
            a_persons_key_stays_the_same,
            a_forgotten_person_is_gone_with_everything,
            forgetting_spares_everyone_else,
            forgetting_may_be_repeated,
            a_forgotten_email_is_free_again,
            nothing_attaches_to_an_unknown_person,
            a_credential_may_be_replaced_by_its_owner_only,
            a_password_change_drops_the_other_credentials,
            a_session_is_found_by_its_token_until_it_ends,
            only_its_owner_ends_a_session,
            ending_all_sessions_names_each,
            sessions_are_purged_when_they_expire,
            a_checkpoint_is_the_last_one_put,
            macs_depend_on_their_label,
        );
    };
}
pub(crate) use subject_store_contract;

/// The same for a store whose key-encryption key can be rotated: `$make` gives the store and that key.
macro_rules! subject_store_rotation_contract {
    ($make:path: $($rule:ident),+ $(,)?) => {$(
        #[tokio::test]
        async fn $rule() {
            let (_kept, store, key) = $make().await;
            crate::security::subjects::contract::$rule(store, &key).await;
        }
    )+};
    ($make:path) => {
        subject_store_rotation_contract!($make:
            a_rotation_changes_no_key_and_leaves_none_under_the_old_one,
            a_rewrapping_repeated_finds_nothing,
        );
    };
}
pub(crate) use subject_store_rotation_contract;

async fn registered(store: &dyn SubjectStore, n: u128) -> Uuid {
    store.register(user(n), &format!("user{n}@example.org"), NOW_MS).await.unwrap();
    user(n)
}

pub async fn an_email_is_registered_once(store: Arc<dyn SubjectStore>) {
    let first = store.register(user(1), "ada@example.org", NOW_MS).await.unwrap();
    assert_eq!(first, Registration::Created { user_id: user(1) });
    for candidate in [user(2), user(1)] {
        let again = store.register(candidate, "ada@example.org", NOW_MS).await.unwrap();
        assert_eq!(again, Registration::Existing { user_id: user(1) });
    }
    assert!(store.keys(&[user(2)]).await.unwrap().is_empty());
}

pub async fn an_id_is_registered_for_one_email(store: Arc<dyn SubjectStore>) {
    let ada = registered(&*store, 1).await;
    assert!(store.register(ada, "other@example.org", NOW_MS).await.is_err());
    assert_eq!(store.user_by_email("user1@example.org").await.unwrap(), Some(ada));
    assert_eq!(store.user_by_email("other@example.org").await.unwrap(), None);
}

pub async fn an_email_is_found_in_any_letter_case(store: Arc<dyn SubjectStore>) {
    store.register(user(1), "  Änne@Example.ORG ", NOW_MS).await.unwrap();
    assert_eq!(store.user_by_email("änne@example.org").await.unwrap(), Some(user(1)));
    assert_eq!(store.user_by_email("anne@example.org").await.unwrap(), None);
    let other_case = store.register(user(2), "ÄNNE@example.org", NOW_MS).await.unwrap();
    assert_eq!(other_case, Registration::Existing { user_id: user(1) });
}

pub async fn two_registrations_at_once_get_one_row(store: Arc<dyn SubjectStore>) {
    let (one, two) = tokio::join!(
        store.register(user(1), "ada@example.org", NOW_MS),
        store.register(user(2), "ada@example.org", NOW_MS),
    );
    let answers = [one.unwrap(), two.unwrap()];
    let owner = store.user_by_email("ada@example.org").await.unwrap().unwrap();
    assert!(answers.contains(&Registration::Created { user_id: owner }), "{answers:?}");
    assert!(answers.contains(&Registration::Existing { user_id: owner }), "{answers:?}");
}

pub async fn a_persons_key_stays_the_same(store: Arc<dyn SubjectStore>) {
    let ids = [registered(&*store, 1).await, registered(&*store, 2).await, user(3)];
    let keys = store.keys(&ids).await.unwrap();
    assert_eq!((keys.len(), keys[&ids[0]].id), (2, ids[0]));
    let sealed = cipher::seal(Suite::default(), &keys[&ids[0]], b"", b"", b"words");
    let again = store.keys(&ids).await.unwrap();
    assert_eq!(cipher::open(&again[&ids[0]], b"", b"", &sealed).unwrap(), b"words");
    assert_ne!(keys[&ids[0]].expose(), keys[&ids[1]].expose());
}

pub async fn a_forgotten_person_is_gone_with_everything(store: Arc<dyn SubjectStore>) {
    let ada = registered(&*store, 1).await;
    store.put_credential(credential(1, ada)).await.unwrap();
    store.create_session(session(1, ada)).await.unwrap();
    assert_eq!(store.keys(&[ada]).await.unwrap().len(), 1);
    store.forget(ada).await.unwrap();
    assert!(store.keys(&[ada]).await.unwrap().is_empty());
    assert_eq!(store.user_by_email("user1@example.org").await.unwrap(), None);
    assert_eq!(store.credential(credential(1, ada).id).await.unwrap(), None);
    assert_eq!(store.session_by_token(&session(1, ada).token_hash).await.unwrap(), None);
}

pub async fn forgetting_spares_everyone_else(store: Arc<dyn SubjectStore>) {
    let (ada, bob) = (registered(&*store, 1).await, registered(&*store, 2).await);
    store.put_credential(credential(2, bob)).await.unwrap();
    store.create_session(session(2, bob)).await.unwrap();
    store.forget(ada).await.unwrap();
    assert_eq!(store.keys(&[bob]).await.unwrap().len(), 1);
    assert_eq!(store.user_by_email("user2@example.org").await.unwrap(), Some(bob));
    assert_eq!(store.credential(credential(2, bob).id).await.unwrap(), Some(credential(2, bob)));
    assert_eq!(store.sessions_of(bob).await.unwrap(), [session(2, bob)]);
}

pub async fn forgetting_may_be_repeated(store: Arc<dyn SubjectStore>) {
    let ada = registered(&*store, 1).await;
    for _ in 0..2 {
        store.forget(ada).await.unwrap();
    }
    store.forget(user(9)).await.unwrap();
}

pub async fn a_forgotten_email_is_free_again(store: Arc<dyn SubjectStore>) {
    let ada = registered(&*store, 1).await;
    let old = store.keys(&[ada]).await.unwrap();
    store.forget(ada).await.unwrap();
    let again = store.register(ada, "user1@example.org", NOW_MS).await.unwrap();
    assert_eq!(again, Registration::Created { user_id: ada });
    let new = store.keys(&[ada]).await.unwrap();
    assert_ne!(old[&ada].expose(), new[&ada].expose());
}

pub async fn nothing_attaches_to_an_unknown_person(store: Arc<dyn SubjectStore>) {
    let nobody = user(9);
    let credential = store.put_credential(credential(1, nobody)).await;
    assert!(matches!(credential, Err(SubjectsError::UnknownUser(id)) if id == nobody));
    let session = store.create_session(session(1, nobody)).await;
    assert!(matches!(session, Err(SubjectsError::UnknownUser(id)) if id == nobody));
}

pub async fn a_credential_may_be_replaced_by_its_owner_only(store: Arc<dyn SubjectStore>) {
    let (ada, bob) = (registered(&*store, 1).await, registered(&*store, 2).await);
    store.put_credential(credential(1, ada)).await.unwrap();
    let stronger = Credential { phc: "$argon2id$stronger".into(), ..credential(1, ada) };
    store.put_credential(stronger.clone()).await.unwrap();
    assert!(store.put_credential(credential(1, bob)).await.is_err());
    assert_eq!(store.credential(stronger.id).await.unwrap(), Some(stronger));
}

pub async fn a_password_change_drops_the_other_credentials(store: Arc<dyn SubjectStore>) {
    let (ada, bob) = (registered(&*store, 1).await, registered(&*store, 2).await);
    for credential in [credential(1, ada), credential(2, ada), credential(3, bob)] {
        store.put_credential(credential).await.unwrap();
    }
    store.drop_other_credentials(ada, credential(2, ada).id).await.unwrap();
    assert_eq!(store.credential(credential(1, ada).id).await.unwrap(), None);
    assert!(store.credential(credential(2, ada).id).await.unwrap().is_some());
    assert!(store.credential(credential(3, bob).id).await.unwrap().is_some());
}

pub async fn a_session_is_found_by_its_token_until_it_ends(store: Arc<dyn SubjectStore>) {
    let ada = registered(&*store, 1).await;
    let kept = session(1, ada);
    store.create_session(kept.clone()).await.unwrap();
    assert_eq!(store.session_by_token(&kept.token_hash).await.unwrap(), Some(kept.clone()));
    assert_eq!(store.session_by_token(&[9; HASH_BYTES]).await.unwrap(), None);
    assert_eq!(store.end_session(ada, kept.id).await.unwrap(), Some(kept.clone()));
    assert_eq!(store.session_by_token(&kept.token_hash).await.unwrap(), None);
    assert_eq!(store.end_session(ada, kept.id).await.unwrap(), None);
}

pub async fn only_its_owner_ends_a_session(store: Arc<dyn SubjectStore>) {
    let (ada, bob) = (registered(&*store, 1).await, registered(&*store, 2).await);
    store.create_session(session(1, ada)).await.unwrap();
    assert_eq!(store.end_session(bob, session(1, ada).id).await.unwrap(), None);
    assert_eq!(store.sessions_of(ada).await.unwrap().len(), 1);
}

pub async fn ending_all_sessions_names_each(store: Arc<dyn SubjectStore>) {
    let (ada, bob) = (registered(&*store, 1).await, registered(&*store, 2).await);
    for session in [session(1, ada), session(2, ada), session(3, bob)] {
        store.create_session(session).await.unwrap();
    }
    assert_eq!(store.sessions_of(ada).await.unwrap(), [session(2, ada), session(1, ada)]);
    let mut ended = store.end_sessions_of(ada).await.unwrap();
    ended.sort_by_key(|session| session.id);
    assert_eq!(ended, [session(1, ada), session(2, ada)]);
    assert!(store.sessions_of(ada).await.unwrap().is_empty());
    assert_eq!(store.sessions_of(bob).await.unwrap().len(), 1);
}

pub async fn sessions_are_purged_when_they_expire(store: Arc<dyn SubjectStore>) {
    let ada = registered(&*store, 1).await;
    for n in 1..=3 {
        store.create_session(session(n, ada)).await.unwrap();
    }
    assert_eq!(store.purge_sessions(session(2, ada).expires_at_ms).await.unwrap(), 2);
    assert_eq!(store.sessions_of(ada).await.unwrap(), [session(3, ada)]);
}

pub async fn a_checkpoint_is_the_last_one_put(store: Arc<dyn SubjectStore>) {
    assert_eq!(store.checkpoint("erasure").await.unwrap(), None);
    for position in [3, 7] {
        let checkpoint = Checkpoint { position, event_id: user(position.into()) };
        store.put_checkpoint("erasure", checkpoint).await.unwrap();
        assert_eq!(store.checkpoint("erasure").await.unwrap(), Some(checkpoint));
    }
    assert_eq!(store.checkpoint("other").await.unwrap(), None);
}

pub async fn macs_depend_on_their_label(store: Arc<dyn SubjectStore>) {
    assert_eq!(store.hmac("a", b"data"), store.hmac("a", b"data"));
    assert_ne!(store.hmac("a", b"data"), store.hmac("b", b"data"));
}

/// More people than any adapter takes in one batch.
const CROWD: u128 = 600;

pub async fn a_rotation_changes_no_key_and_leaves_none_under_the_old_one(
    store: Arc<dyn SubjectStore>,
    key: &MasterKey,
) {
    let mut people = Vec::new();
    for n in 1..=CROWD {
        people.push(registered(&*store, n).await);
    }
    let (facts, mac) = (store.facts_key(), store.hmac("a", b"data"));
    let before = store.keys(&people).await.unwrap();
    key.begin_rotation().unwrap();
    let late = registered(&*store, CROWD + 1).await;
    store.forget(people[0]).await.unwrap();
    // Everyone who was there and was not forgotten, and the two keys of the instance.
    assert_eq!(store.rewrap().await.unwrap(), u64::try_from(CROWD - 1 + 2).unwrap());
    key.end_rotation().unwrap();
    let after = store.keys(&people).await.unwrap();
    assert_eq!(after.len(), people.len() - 1);
    assert!(after.iter().all(|(id, key)| key.expose() == before[id].expose()));
    assert_eq!(store.keys(&[late]).await.unwrap().len(), 1);
    assert_eq!((store.facts_key().expose(), store.hmac("a", b"data")), (facts.expose(), mac));
}

pub async fn a_rewrapping_repeated_finds_nothing(store: Arc<dyn SubjectStore>, key: &MasterKey) {
    registered(&*store, 1).await;
    assert_eq!(store.rewrap().await.unwrap(), 0, "all is under the current key");
    key.begin_rotation().unwrap();
    assert_eq!(store.rewrap().await.unwrap(), 3);
    assert_eq!(store.rewrap().await.unwrap(), 0);
}
