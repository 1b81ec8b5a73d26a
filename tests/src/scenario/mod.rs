//! What every face of echoloop does for its peers, one function a sentence.
//!
//! A scenario starts its own server, talks to it as a peer can, and ends with [`crate::Server::stop`]: SIGTERM, exit
//! code 0. To add one: write the function in the file of its theme, and name it in [`crate::conformance_tests!`].

mod crowds;
mod endings;
mod idleness;
mod messages;
mod overload;
mod streams;

pub use crowds::*;
pub use endings::*;
pub use idleness::*;
pub use messages::*;
pub use overload::*;
pub use streams::*;

use std::fs::File;

use nix::fcntl::Flock;

use crate::artifacts;

/// No more than this may leave a client that never reads: what the kernel's buffers of both ends and the server hold.
const MOST_IN_FLIGHT: u64 = 64 << 20;

/// Scenarios that move much or open much run one at a time, so that two cores are enough for their deadlines.
fn heavy() -> Flock<File> {
    artifacts::lock("heavy")
}

/// Makes one test of each scenario for each rig.
///
/// `conformance_tests! { c_hooks => Some(Rig::new(Face::CHooks)); }` makes `c_hooks::SCENARIO` for every scenario; where
/// the rig is `None` the test passes without doing anything (the rig has said why).
#[macro_export]
macro_rules! conformance_tests {
    ($($face:ident => $rig:expr;)+) => {
        $(mod $face {
            use super::*;

            $crate::conformance_tests! { @each $rig;
                two_clients_get_a_message_in_three_parts_back_part_by_part
                a_slow_client_that_reads_late_gets_everything_in_order
                one_byte_at_a_time_comes_back
                bytes_of_every_value_come_back_unchanged
                seventy_megabytes_come_back_while_they_are_sent
                several_streams_at_once_do_not_mix
                half_closed_peer_gets_all_its_bytes_back
                half_closed_peer_that_filled_every_buffer_gets_all_its_bytes_back
                half_closed_peer_that_sent_nothing_gets_an_end_and_no_more
                nc_that_closes_its_half_gets_all_its_bytes_back
                a_reset_in_mid_stream_hurts_nobody_else
                a_reset_before_a_word_hurts_nobody
                a_client_that_never_reads_is_blocked_and_others_are_served
                a_stopped_client_does_not_disturb_others_and_goes_on_later
                a_thousand_clients_at_once_are_served
                ten_thousand_connects_and_closes_cost_no_descriptor_and_no_memory
                a_silent_client_is_cut_at_the_idle_timeout_and_not_before
                a_client_that_talks_is_not_cut_until_it_falls_silent
                sigterm_lets_what_was_sent_come_back_and_ends_well
                sigterm_serves_a_client_that_had_stopped_reading
                sigint_ends_well_without_any_client
            }
        })+
    };
    (@each $rig:expr; $($scenario:ident)+) => {
        $(#[test]
        fn $scenario() {
            if let Some(rig) = $rig {
                $crate::scenario::$scenario(rig);
            }
        })+
    };
}
