//! Topics as AMQP 0-9-1 has them (section 3.1.3.3): words between dots.

/// Whether a topic is one that `pattern` stands for: `*` is one word, `#` any number of words, also none.
pub fn is_matched(pattern: &str, topic: &str) -> bool {
    let (pattern, topic): (Vec<_>, Vec<_>) = (pattern.split('.').collect(), topic.split('.').collect());
    // Which beginnings of the topic the pattern stands for, as far as it was looked at.
    let mut reached = vec![false; topic.len() + 1];
    reached[0] = true;
    for word in pattern {
        if word == "#" {
            for end in 1..reached.len() {
                reached[end] |= reached[end - 1];
            }
        } else {
            for end in (1..reached.len()).rev() {
                reached[end] = reached[end - 1] && (word == "*" || word == topic[end - 1]);
            }
            reached[0] = false;
        }
    }
    reached[topic.len()]
}

#[cfg(test)]
mod tests {
    use super::is_matched;
    use rstest::rstest;

    #[rstest]
    #[case("task.completed", "task.completed", true)]
    #[case("task.completed", "task.completed.1", false)]
    #[case("task.*", "task.completed", true)]
    #[case("task.*", "task", false)]
    #[case("task.*", "task.completed.1", false)]
    #[case("*.completed.*", "task.completed.1", true)]
    #[case("#", "task.completed.1", true)]
    #[case("#", "", true)]
    #[case("task.#", "task", true)]
    #[case("task.#", "task.completed.1", true)]
    #[case("task.#", "agent.completed", false)]
    #[case("#.1", "task.completed.1", true)]
    #[case("#.1", "1", true)]
    #[case("#.1", "task.1.2", false)]
    #[case("task.#.1", "task.1", true)]
    #[case("task.#.*", "task.1", true)]
    #[case("task.#.*", "task", false)]
    #[case("*.#.*", "a.b", true)]
    #[case("*", "", true)]
    #[case("", "", true)]
    #[case("", "task", false)]
    fn a_topic_is_matched_word_by_word(#[case] pattern: &str, #[case] topic: &str, #[case] expected: bool) {
        assert_eq!(is_matched(pattern, topic), expected, "{pattern} and {topic}");
    }
}
