/* canary.h - known bugs that can be switched on: does what is there to find bugs find them?
 *
 * Each is one wrong step at the place where such a mistake would be made, and its name says which step. None is in a library as
 * it is shipped: without `meson setup -Dcanaries=true` CANARY(name) is the constant false, and not even a name remains (tests/structure
 * looks). With it, the environment variable QUIRE_CANARY=name switches one on, for the process's whole life; without that variable
 * such a library behaves like any other. A name that isn't listed ends the process with a word.
 *
 * tests/sim/canaries runs the simulator with each of them and prints how soon it was found. Whoever thinks of another mistake
 * puts it into the list and its place; what then doesn't find it lacks something.
 */
#ifndef BASE_CANARY_H
#define BASE_CANARY_H

#include <stdbool.h>

#define CANARIES(X) \
	/* media */ \
	X(pmem_fence_skipped, "writes to persistent memory are told durable without a fence") \
	X(pmem_last_line_not_stored, "a write to persistent memory stops short of its last cache line") \
	/* journal */ \
	X(group_not_durable, "groups are written, but not durably") \
	X(group_acked_when_taken, "who waits for a group is told before it is written") \
	X(group_loses_last_block, "a group is written without its last block") \
	X(torn_payload_accepted, "recovery takes a record whose payload is torn") \
	X(record_replayed_twice, "recovery hands out the last record of each 16 twice") \
	X(recovered_tail_not_made_durable, "what recovery found at the end is not written again") \
	X(old_log_erased_first, "a compaction erases the old log before the new one is complete") \
	/* store */ \
	X(data_not_flushed, "a transaction is recorded before its objects' bytes are flushed") \
	X(raced_page_not_durable, "the page that is written beside its record is not written durably") \
	X(transaction_not_synced, "a transaction is answered before its record is durable") \
	X(segment_change_not_synced, "segments come and go before their record is durable") \
	X(move_not_synced, "a moved segment's source is freed before the record of the move is durable") \
	X(moved_segment_not_flushed, "a segment's copy is recorded before it is flushed") \
	X(id_used_again, "ids begin anew with each opening") \
	X(space_reused_while_read, "an object's space is given back though somebody holds it") \
	X(page_checksum_ignored, "pages are not held against their checksums") \
	X(footer_before_checksums, "a segment's footer is written before the checksums that it stands for") \
	X(footer_written_at_once, "a segment's footer is written as if all of its page arrived at once") \
	X(footer_checksum_ignored, "a footer is not held against its checksum") \
	/* cache */ \
	X(page_shown_unverified, "a page is installed though its verification has failed") \
	X(pin_forgotten, "a pin is charged, but not noted on the page") \
	/* log */ \
	X(durable_told_when_visible, "the durable watermark is the visible one") \
	X(trim_forgets_first, "a trim removes segments, and the log's first record stays where it was") \
	X(key_keeps_older, "the index of keys goes on pointing at the older record") \
	/* volume */ \
	X(snapshot_shares_generation, "what is written after a snapshot is born in the snapshot's generation") \
	X(shrink_keeps_blocks, "a volume that has shrunk still has its old blocks when it grows") \
	X(hole_lost_in_merge, "a discarded range comes back with the next checkpoint") \
	X(partial_write_loses_other, "half a block is written over what another has written meanwhile") \
	X(flush_waits_for_nothing, "a volume's flush is answered at once") \
	X(checkpoint_before_its_pages, "a checkpoint is recorded before the pages that it refers to are durable") \
	X(record_grows_past_checkpoint, "a record before a checkpoint's place is made longer after the checkpoint began") \
	X(segment_freed_before_checkpoint, "segments are removed before the checkpoint that no longer needs them") \
	X(cleaner_forgets_extent, "the cleaner counts an extent as moved, and leaves it") \
	X(cleaner_brings_back_old, "the cleaner's copy replaces what was written meanwhile") \
	/* tmem */ \
	X(refused_put_keeps_old, "a put that is refused leaves the page it was to replace") \
	X(put_keeps_older, "a put of a page that is there is dropped") \
	X(get_does_not_take, "a get that takes its page leaves it") \
	X(spilled_though_write_failed, "pages count as spilled though writing them has failed") \
	X(spill_reused_while_read, "a spilled page's space is given back while somebody reads it") \
	X(image_skips_first_page, "a pool's image begins with its second page")

#define CANARY_ENUMERATOR(name, what) CANARY_##name,
enum canary { CANARY_NONE, CANARIES(CANARY_ENUMERATOR) CANARY_N };
#undef CANARY_ENUMERATOR

#ifdef QUIRE_CANARIES
bool canary_is_on(enum canary canary);
#define CANARY(name) canary_is_on(CANARY_##name)
#else
#define CANARY(name) ((void)CANARY_##name, false)
#endif

#endif
