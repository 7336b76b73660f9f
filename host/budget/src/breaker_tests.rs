//! The transitions of the breaker, one by one and under random sequences.

use super::*;
use crate::testing::Random;

const OPTIONS: fn() -> BreakerOptions = BreakerOptions::default;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn ended(state: &mut State, now: i64, outcome: Outcome, probe: bool) {
    let lease = state.pause.filter(|_| probe).map(|pause| pause.until);
    state.ended(at(now), outcome, lease, 1.0, &OPTIONS());
}

/// The end of a probe that began when the pause was over.
fn probed(state: &mut State, outcome: Outcome) -> i64 {
    let over = state.pause.unwrap().until;
    let lease = state.claim(over, &OPTIONS());
    state.ended(over, outcome, Some(lease), 1.0, &OPTIONS());
    over.as_second()
}

fn opened() -> State {
    let mut state = State::default();
    for _ in 0..5 {
        ended(&mut state, 0, Outcome::Unavailable, false);
    }
    state
}

fn wait(state: &State, now: i64) -> Option<Duration> {
    match state.ask(at(now), false) {
        Answer::Wait { wait, .. } => Some(wait),
        _ => None,
    }
}

#[test]
fn it_opens_after_five_failures_in_a_row_and_a_success_in_between_starts_the_count_anew() {
    let mut state = State::default();
    for _ in 0..4 {
        ended(&mut state, 0, Outcome::Unavailable, false);
    }
    ended(&mut state, 0, Outcome::Answered, false);
    for _ in 0..4 {
        ended(&mut state, 0, Outcome::Unavailable, false);
        assert_eq!(state.ask(at(0), false), Answer::Go);
    }
    ended(&mut state, 0, Outcome::Unavailable, false);
    assert_eq!(wait(&state, 0), Some(Duration::from_secs(2)));
}

#[test]
fn a_server_that_says_when_it_is_back_is_not_asked_before() {
    let mut state = State::default();
    ended(&mut state, 0, Outcome::UnavailableFor(Duration::from_secs(20)), false);
    assert_eq!(wait(&state, 0), Some(Duration::from_secs(20)));
    // Another call that was under way changes nothing.
    ended(&mut state, 1, Outcome::UnavailableFor(Duration::from_secs(300)), false);
    assert_eq!(wait(&state, 1), Some(Duration::from_secs(19)));
    assert_eq!(probed(&mut state, Outcome::UnavailableFor(Duration::from_secs(7))), 20);
    assert_eq!(wait(&state, 20), Some(Duration::from_secs(7)));
    probed(&mut state, Outcome::Answered);
    assert_eq!(state, State::default());
}

#[test]
fn asking_and_late_failures_extend_nothing() {
    let mut state = opened();
    let before = state;
    for second in 0..2 {
        state.ask(at(second), false);
        ended(&mut state, second, Outcome::Unavailable, false);
        ended(&mut state, second, Outcome::NotAsked, false);
        ended(&mut state, second, Outcome::Unclear, false);
    }
    assert_eq!(state, before);
}

#[test]
fn a_refusal_that_comes_late_extends_nothing_and_one_of_a_probe_does() {
    let mut state = State::default();
    ended(&mut state, 0, Outcome::Refused, false);
    let before = state;
    ended(&mut state, 1, Outcome::Refused, false);
    assert_eq!(state, before);
    probed(&mut state, Outcome::Refused);
    assert_eq!(state.pause.unwrap().strikes, 2);
    // Refused credentials take precedence over an outage, and not over a wait that was asked for.
    let mut state = opened();
    ended(&mut state, 0, Outcome::Refused, false);
    assert_eq!(state.pause.unwrap().reason, PauseReason::Refused);
    let mut state = State::default();
    ended(&mut state, 0, Outcome::RateLimited(Some(Duration::from_secs(600))), false);
    ended(&mut state, 1, Outcome::Refused, false);
    assert_eq!(wait(&state, 1), Some(Duration::from_secs(599)));
}

#[test]
fn one_refusal_is_a_suspicion_and_the_probes_refusal_a_fact() {
    let doubted = |state: &State, now| match state.ask(at(now), false) {
        Answer::Wait { doubted, .. } => doubted,
        answer => panic!("{answer:?}"),
    };
    let mut state = State::default();
    ended(&mut state, 0, Outcome::Refused, false);
    assert!(doubted(&state, 0) && wait(&state, 0) == Some(Duration::from_secs(2)));
    let now = probed(&mut state, Outcome::Refused);
    assert!(!doubted(&state, now));
    // After a success, the next refusal is the first again.
    probed(&mut state, Outcome::Answered);
    ended(&mut state, 20, Outcome::Refused, false);
    assert!(doubted(&state, 20));
}

#[test]
fn refused_credentials_are_asked_about_every_eight_seconds_for_an_hour_and_then_seldom() {
    let mut state = State::default();
    ended(&mut state, 0, Outcome::Refused, false);
    let mut last = 0;
    for strikes in 2..=OPTIONS().refused_strikes + 1 {
        last = probed(&mut state, Outcome::Refused);
        let pause = wait(&state, last).unwrap().as_secs();
        let expected = if strikes > OPTIONS().refused_strikes { 300 } else { 8.min(1 << strikes.min(3)) };
        assert_eq!(pause, expected, "{strikes}");
    }
    assert!((3_400..3_700).contains(&last), "{last}");
}

#[test]
fn a_probe_that_hangs_keeps_its_right_for_eight_seconds_and_its_late_end_changes_nothing() {
    let mut state = opened();
    let hanging = state.claim(at(3), &OPTIONS());
    assert!(wait(&state, 10).is_some());
    assert_eq!(state.ask(at(11), false), Answer::Probe);
    let second = state.claim(at(11), &OPTIONS());
    state.ended(at(12), Outcome::Answered, Some(second), 1.0, &OPTIONS());
    assert_eq!(state, State::default());
    state.ended(at(23), Outcome::Unavailable, Some(hanging), 1.0, &OPTIONS());
    assert_eq!((state.failures, state.pause), (1, None));
    // Nor while the second is still probing.
    let mut state = opened();
    let hanging = state.claim(at(3), &OPTIONS());
    state.claim(at(11), &OPTIONS());
    let before = state;
    state.ended(at(12), Outcome::Unavailable, Some(hanging), 1.0, &OPTIONS());
    state.ended(at(12), Outcome::NotAsked, Some(hanging), 1.0, &OPTIONS());
    assert_eq!(state, before);
}

#[test]
fn one_call_probes_and_the_others_wait_for_it() {
    let mut state = opened();
    assert_eq!(state.ask(at(3), false), Answer::Probe);
    state.claim(at(3), &OPTIONS());
    assert_eq!(wait(&state, 3), Some(WHILE_PROBING));
    ended(&mut state, 4, Outcome::Answered, true);
    assert_eq!(state, State::default());
}

#[test]
fn a_probe_that_fails_doubles_the_pause_up_to_the_longest() {
    let (mut state, mut now, mut pauses) = (opened(), 0, Vec::new());
    for _ in 0..7 {
        let pause = wait(&state, now).unwrap();
        pauses.push(pause.as_secs());
        now += pause.as_secs() as i64 + 1;
        assert_eq!(state.ask(at(now), false), Answer::Probe);
        state.claim(at(now), &OPTIONS());
        ended(&mut state, now, Outcome::Unavailable, true);
    }
    assert_eq!(pauses, [2, 4, 8, 8, 8, 8, 8]);
}

#[test]
fn a_pause_is_drawn_from_its_upper_half() {
    let seconds = Duration::from_secs;
    for (strikes, longest) in [(1, 2), (2, 4), (6, 60), (400, 60)] {
        let drawn = |draw| back_off(seconds(2), seconds(60), strikes, draw);
        assert_eq!(drawn(0.0), seconds(longest) / 2);
        assert_eq!(drawn(0.5), seconds(longest) * 3 / 4);
        assert_eq!(drawn(1.0), seconds(longest));
    }
}

#[test]
fn the_right_of_a_probe_that_was_never_heard_of_again_ends() {
    let mut state = opened();
    state.claim(at(3), &OPTIONS());
    assert!(wait(&state, 10).is_some());
    assert_eq!(state.ask(at(11), false), Answer::Probe);
}

#[test]
fn a_probe_that_made_no_request_leaves_the_right_to_the_next() {
    let mut state = opened();
    state.claim(at(3), &OPTIONS());
    ended(&mut state, 3, Outcome::NotAsked, true);
    assert_eq!(state.ask(at(3), false), Answer::Probe);
}

#[test]
fn the_servers_word_on_how_long_to_wait_is_taken_for_an_hour_and_only_a_longer_one_replaces_it() {
    let mut state = State::default();
    let limited = |seconds| Outcome::RateLimited(Some(Duration::from_secs(seconds)));
    ended(&mut state, 0, limited(60), false);
    ended(&mut state, 10, limited(5), false);
    ended(&mut state, 10, Outcome::Answered, false);
    assert_eq!(wait(&state, 10), Some(Duration::from_secs(50)));
    ended(&mut state, 10, limited(100), false);
    assert_eq!(wait(&state, 10), Some(Duration::from_secs(100)));
    ended(&mut state, 10, limited(10_000_000), false);
    assert_eq!(wait(&state, 10), Some(Duration::from_secs(3_600)));
    // A day is believed when the counts explain it.
    let options = BreakerOptions { asked_max: LONGEST_WAIT, ..OPTIONS() };
    state.ended(at(10), limited(10_000_000), None, 1.0, &options);
    assert_eq!(wait(&state, 10), Some(LONGEST_WAIT));
}

#[test]
fn without_the_servers_word_it_backs_off_by_itself() {
    let mut state = State::default();
    ended(&mut state, 0, Outcome::RateLimited(None), false);
    ended(&mut state, 0, Outcome::RateLimited(None), false);
    assert_eq!(wait(&state, 0), Some(Duration::from_secs(4)), "fifty at once are one strike");
    for _ in 0..3 {
        let now = probed(&mut state, Outcome::RateLimited(None));
        assert_eq!(wait(&state, now), Some(Duration::from_secs(8)));
    }
}

#[test]
fn a_pause_is_as_long_as_the_limits_need_it_to_be() {
    let options = BreakerOptions { at_least: Duration::from_secs(90), ..OPTIONS() };
    for outcome in [Outcome::RateLimited(None), Outcome::Refused, Outcome::Unavailable] {
        let mut state = State::default();
        for _ in 0..5 {
            state.ended(at(0), outcome, None, 1.0, &options);
        }
        assert_eq!(wait(&state, 0), Some(Duration::from_secs(90)), "{outcome:?}");
    }
}

#[test]
fn refused_credentials_that_are_entered_again_are_tried_at_once() {
    let mut state = State::default();
    ended(&mut state, 0, Outcome::Refused, false);
    assert!(wait(&state, 0).is_some());
    assert_eq!(state.ask(at(0), true), Answer::Probe);
    state.claim(at(0), &OPTIONS());
    ended(&mut state, 0, Outcome::Answered, true);
    assert_eq!(state, State::default());
    // The server's wait applies to every call.
    ended(&mut state, 0, Outcome::RateLimited(None), false);
    assert!(matches!(state.ask(at(0), true), Answer::Wait { .. }));
}

#[test]
fn a_pause_from_a_clock_that_was_set_back_is_over() {
    let mut state = State::default();
    ended(&mut state, 1_000_000, Outcome::Refused, false);
    assert_eq!(state.ask(at(0), false), Answer::Probe);
}

#[test]
fn an_item_whose_answer_is_not_understood_makes_no_pause_longer() {
    for reason in [Outcome::RateLimited(None), Outcome::Unavailable] {
        let mut state = opened();
        let began = probed(&mut state, reason);
        let first = state.pause.unwrap();
        for _ in 0..10 {
            let now = probed(&mut state, Outcome::Unclear);
            let pause = state.pause.unwrap();
            assert_eq!((pause.reason, pause.strikes), (first.reason, first.strikes));
            assert_eq!(pause.until.duration_since(at(now)), first.until.duration_since(at(began)));
        }
    }
}

/// Under any sequence of outcomes every wait ends, and at most one probe holds the right.
#[test]
fn every_pause_ends_and_one_probes_at_a_time() {
    for seed in 0..200 {
        let mut random = Random::new(seed);
        let (mut state, mut now, mut probing): (_, _, Option<(i64, Lease)>) = (State::default(), 0_i64, None);
        for _ in 0..300 {
            now += random.below(20) as i64;
            let outcome = any(&mut random);
            match state.ask(at(now), random.below(10) == 0) {
                Answer::Probe => {
                    assert!(probing.is_none_or(|(since, _)| now - since >= 8), "seed {seed}: two probes at {now}");
                    probing = Some((now, state.claim(at(now), &OPTIONS())));
                }
                Answer::Go => state.ended(at(now), outcome, None, random.fraction(), &OPTIONS()),
                Answer::Wait { wait, .. } => assert!(wait <= LONGEST_WAIT && !wait.is_zero()),
            }
            if random.below(3) == 0
                && let Some((_, lease)) = probing.take()
            {
                state.ended(at(now), outcome, Some(lease), random.fraction(), &OPTIONS());
            }
        }
    }
}

/// Whatever a server did for up to an hour, unless it asked for a wait itself: once it is well
/// again, a caller who comes back when told to gets through within 8 s.
#[test]
fn after_any_fault_the_next_call_gets_through_within_eight_seconds() {
    for seed in 0..400 {
        let mut random = Random::new(seed);
        let (mut state, mut now, mut hanging) = (State::default(), 0_i64, None);
        let end = 1 + random.below(3_600) as i64;
        while now < end {
            now += random.below(3) as i64;
            let outcome = match any(&mut random) {
                Outcome::RateLimited(_) => Outcome::RateLimited(None),
                outcome => outcome,
            };
            match state.ask(at(now), false) {
                Answer::Probe => {
                    let lease = state.claim(at(now), &OPTIONS());
                    match random.below(3) {
                        0 => hanging = Some(lease),
                        _ => state.ended(at(now), outcome, Some(lease), random.fraction(), &OPTIONS()),
                    }
                }
                Answer::Go => state.ended(at(now), outcome, None, random.fraction(), &OPTIONS()),
                Answer::Wait { .. } => {}
            }
            if random.below(9) == 0 {
                state.ended(at(now), Outcome::Unavailable, hanging.take(), random.fraction(), &OPTIONS());
            }
        }
        let (mut then, well) = (at(now), now * 1_000);
        loop {
            match state.ask(then, false) {
                Answer::Go => break,
                Answer::Probe => {
                    let lease = state.claim(then, &OPTIONS());
                    state.ended(then, Outcome::Answered, Some(lease), random.fraction(), &OPTIONS());
                }
                Answer::Wait { wait, .. } => then = after(then, wait),
            }
        }
        let waited = then.as_millisecond() - well;
        assert!(waited <= 8_000, "seed {seed}: {waited} ms");
    }
}

fn any(random: &mut Random) -> Outcome {
    match random.below(6) {
        0 => Outcome::Answered,
        1 | 2 => Outcome::Unavailable,
        3 => Outcome::RateLimited((random.below(2) == 0).then(|| Duration::from_secs(random.below(1 << 20)))),
        4 => Outcome::Refused,
        _ => Outcome::Unclear,
    }
}
