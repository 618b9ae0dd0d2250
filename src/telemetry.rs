//! Sets up logging: which lines are written, and how. What a line says is its author's business.
//!
//! Log lines go to standard error, so that standard output holds what a command answers. Payloads never get into them: we
//! do not log any, and libraries, whose finer lines hold headers and bodies, are not heard below `info`.
use std::{
    backtrace::{Backtrace, BacktraceStatus},
    io::{self, IsTerminal},
    panic::{self, PanicHookInfo},
};

use tracing::{Level, Metadata, Subscriber, error};
use tracing_subscriber::filter::{FilterExt, LevelFilter, filter_fn};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::FmtSpan;
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};
use tracing_subscriber::{EnvFilter, Registry, fmt};

/// How log lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    Text,
    Json,
}

/// Our own crates: only their lines are known to hold no payload at any level.
const OWN_TARGET: &str = "marvin";

/// Libraries whose `info` tells of each start and each migration step.
const CHATTY_TARGETS: [&str; 2] = ["refinery_core", "actix_server"];

/// Starts logging for the rest of the process: which lines, as [`filter`] reads it, and how; text on a terminal, else JSON. Panics
/// are lines of it, too.
///
/// # Errors
/// When logging was started before.
pub fn init(lines: &str, format: Option<LogFormat>) -> Result<(), TryInitError> {
    let terminal = io::stderr().is_terminal();
    let format = format.unwrap_or(if terminal { LogFormat::Text } else { LogFormat::Json });
    // The filter was parsed when the settings were; a default is better than a process that cannot log.
    let filter = filter(lines).unwrap_or_else(|_| EnvFilter::default().add_directive(LevelFilter::INFO.into()));
    let colours = terminal && std::env::var_os("NO_COLOR").is_none();
    Registry::default().with(layer(filter, format, colours, io::stderr)).try_init()?;
    panic::set_hook(Box::new(tell_of_panic));
    Ok(())
}

/// Says where the program is wrong. What a panic says beyond its fixed words may quote what a person wrote.
fn tell_of_panic(panicked: &PanicHookInfo<'_>) {
    let place = panicked.location().map(ToString::to_string).unwrap_or_default();
    let said = panicked.payload().downcast_ref::<&'static str>().copied().unwrap_or("its words are withheld");
    let thread = std::thread::current();
    let backtrace = Backtrace::capture();
    let backtrace = (backtrace.status() == BacktraceStatus::Captured).then(|| backtrace.to_string());
    error!(place, said, thread = thread.name(), backtrace, "the program panicked");
}

/// Reads a filter such as `info` or `info,marvin::http=debug`.
///
/// # Errors
/// When it is none; the text says where.
pub fn filter(text: &str) -> Result<EnvFilter, tracing_subscriber::filter::ParseError> {
    EnvFilter::builder().parse(text)
}

fn layer<S, W>(filter: EnvFilter, format: LogFormat, colours: bool, writer: W) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'a> tracing_subscriber::registry::LookupSpan<'a>,
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let lines = fmt::layer().with_writer(writer).with_ansi(colours).with_span_events(FmtSpan::NONE);
    let filter = filter.and(filter_fn(|metadata| is_free_of_payloads(metadata) && !is_chatter(metadata)));
    match format {
        LogFormat::Text => lines.with_filter(filter).boxed(),
        LogFormat::Json => lines.json().flatten_event(true).with_filter(filter).boxed(),
    }
}

fn is_free_of_payloads(metadata: &Metadata<'_>) -> bool {
    *metadata.level() <= Level::INFO || metadata.target().starts_with(OWN_TARGET)
}

/// Says nothing to an operator that our own lines do not say.
fn is_chatter(metadata: &Metadata<'_>) -> bool {
    *metadata.level() > Level::WARN && CHATTY_TARGETS.iter().any(|target| metadata.target().starts_with(target))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;
    use std::sync::{Arc, Mutex};
    use tracing::{debug, info};

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(filter_text: &str, format: LogFormat, log: impl FnOnce()) -> String {
        let lines = Lines::default();
        let writer = lines.clone();
        let layer = layer(filter(filter_text).unwrap(), format, false, move || writer.clone());
        tracing::subscriber::with_default(Registry::default().with(layer), log);
        let bytes = lines.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn a_json_line_is_one_object_with_its_fields() {
        let line = logged("info", LogFormat::Json, || info!(task.id = "t1", "task finished"));
        let object: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!((&object["message"], &object["task.id"]), (&"task finished".into(), &"t1".into()));
        assert_eq!(object["level"], "INFO");
    }

    #[test]
    fn a_text_line_reads_as_a_sentence_with_its_fields() {
        let line = logged("info", LogFormat::Text, || info!(task.id = "t1", "task finished"));
        assert!(line.contains("task finished task.id=\"t1\""), "{line}");
    }

    #[test]
    fn a_panic_is_told_by_its_place_and_only_in_fixed_words() {
        let line = logged("info", LogFormat::Json, || {
            panic::set_hook(Box::new(tell_of_panic));
            let who = String::from("somebody");
            panic::catch_unwind(|| panic!("{who} wrote this")).unwrap_err();
            panic::catch_unwind(|| panic!("this cannot be")).unwrap_err();
            drop(panic::take_hook());
        });
        let lines: Vec<serde_json::Value> = line.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!((lines.len(), &lines[1]["said"]), (2, &"this cannot be".into()));
        for told in lines {
            assert_eq!((&told["level"], &told["message"]), (&"ERROR".into(), &"the program panicked".into()));
            assert!(told["place"].as_str().unwrap().starts_with("src/telemetry.rs:"), "{told}");
            assert!(!told.to_string().contains("somebody"), "{told}");
        }
    }

    #[test]
    fn the_filter_decides_which_lines_are_written() {
        assert_eq!(logged("info", LogFormat::Text, || debug!("detail")), "");
        assert_ne!(logged("info,marvin=debug", LogFormat::Text, || debug!("detail")), "");
        assert_eq!(logged("off", LogFormat::Text, || info!("sentence")), "");
    }

    #[test]
    fn a_librarys_finer_lines_stay_unheard_at_every_setting() {
        let wire = || debug!(target: "h2::codec", "frame=Headers authorization=secret");
        assert_eq!(logged("trace", LogFormat::Text, wire), "");
        assert_eq!(logged("h2=trace", LogFormat::Text, wire), "");
        assert_ne!(logged("info", LogFormat::Text, || info!(target: "h2::codec", "connection closed")), "");
    }

    #[rstest]
    #[case("info", true)]
    #[case("info,marvin::http=debug", true)]
    #[case("warn,[span{id=3}]=trace", true)]
    #[case("marvin=loud", false)]
    #[case("info,=,", false)]
    #[case("a=b=c", false)]
    fn only_a_filter_is_taken_as_one(#[case] text: &str, #[case] valid: bool) {
        assert_eq!(filter(text).is_ok(), valid);
    }
}
