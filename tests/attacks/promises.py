"""What mambascope promises when things go wrong, and the tests that hold it to that.

``python -m tests.attacks.promises`` prints the table of the README; ``test_promises.py`` compares the two, and checks
that every test named here exists, runs in ``make test`` (short) or in ``make soak`` (long), that none is missing, and
that the numbers are those of the tests.
"""

from dataclasses import dataclass

ATTACKS, CHAOS = "tests/attacks", "tests/chaos"
SPECTRA, ANALYSIS, FIGURES = "tests/spectra", "tests/analysis", "tests/figures"


@dataclass(frozen=True)
class Promise:
    """One promise."""

    number: int
    """Its number; it stays."""
    text: str
    """What is promised."""
    figure: str
    """What the long form does, in numbers that stand in the tests."""
    short: tuple[str, ...]
    """Tests in ``make test``: ``file::function``; ``file::*`` for all of a file."""
    long: tuple[str, ...] = ()
    """Tests in ``make soak``."""

    def files(self) -> list[str]:
        """The files of all its tests, without ``tests/``."""
        return list(dict.fromkeys(test.partition("::")[0].removeprefix("tests/") for test in self.short + self.long))


PROMISES = (
    Promise(
        1,
        "No file that is read can run code",
        "24 kinds of file, 33 payloads in each (pickles of all protocols, torch.save, npy, code in headers): 0 run",
        (
            f"{ATTACKS}/test_no_code.py::test_no_payload_in_any_file_is_run",
            f"{ATTACKS}/test_no_code.py::test_code_that_lies_beside_a_model_is_not_looked_at",
            f"{ATTACKS}/test_no_code.py::test_no_other_call_could_run_a_file",
            f"{ATTACKS}/test_no_code.py::test_the_payloads_would_run_where_they_are_trusted",
            f"{ATTACKS}/test_checkpoint_attacks.py::test_pickled_code_never_runs",
            f"{ATTACKS}/test_checkpoint_attacks.py::test_code_hidden_behind_extension_codes_and_set_state_never_runs",
        ),
        (f"{ATTACKS}/test_no_code.py::test_no_payload_in_any_file_is_run",),
    ),
    Promise(
        2,
        "A broken checkpoint is refused in one line that names file, tensor, expected and got, within 64 MB",
        "10,000 flipped bytes in each of 5 kinds of file, a cut at every 1/64 and at every byte of the header; "
        "lying shapes, zip bombs, missing shards, the wrong layout: 0 read wrongly, 0 other errors",
        (
            f"{ATTACKS}/test_broken_checkpoints.py::test_flipped_bytes_are_refused_or_harmless",
            f"{ATTACKS}/test_broken_checkpoints.py::test_a_cut_at_every_64th_is_one_line_and_exit_code_3",
            f"{ATTACKS}/test_broken_checkpoints.py::test_what_is_wrong_is_named_by_every_command",
            f"{ATTACKS}/test_broken_checkpoints.py::test_what_lies_beside_the_weights_is_read_as_carefully",
            f"{ATTACKS}/test_any_shapes.py::test_a_model_of_any_shape",
            f"{ATTACKS}/test_any_shapes.py::test_a_tensor_of_another_shape_is_always_refused",
            f"{ATTACKS}/test_checkpoint_attacks.py::*",
        ),
        (
            f"{ATTACKS}/test_broken_checkpoints.py::test_flipped_bytes_are_refused_or_harmless",
            f"{ATTACKS}/test_broken_checkpoints.py::test_what_lies_beside_the_weights_is_read_as_carefully",
            f"{ATTACKS}/test_any_shapes.py::test_1000_models_of_any_shape",
        ),
    ),
    Promise(
        3,
        "NaN and infinity are found before a token is read, an A_log that overflows too: layer and index are named",
        "every kind of tensor of every layer, both architectures, both layouts, every command",
        (
            f"{ATTACKS}/test_not_finite.py::test_every_kind_of_tensor_in_every_layer",
            f"{ATTACKS}/test_not_finite.py::test_in_16_bits_too",
            f"{ATTACKS}/test_not_finite.py::test_an_A_log_whose_rate_overflows_is_named_before_a_token_is_read",
            f"{ATTACKS}/test_not_finite.py::test_a_weight_that_the_dtype_asked_for_cannot_hold_is_named",
            f"{ATTACKS}/test_not_finite.py::test_every_command_says_which_layer",
            f"{ATTACKS}/test_not_finite.py::test_weights_below_the_smallest_normal_number_are_read_and_cost_little_more",
        ),
    ),
    Promise(
        4,
        "kill -9 at any instant costs at most the running step; the same command ends with the same bytes",
        "420 kills of 14 commands at random instants, up to 460 of processes of report, calibrate, verify, "
        "simulate, compare and sweep, up to 195 of a bare run folder: 0 lost",
        (
            f"{CHAOS}/test_kills_of_every_command.py::test_killed_at_random_instants",
            f"{CHAOS}/test_sweep_kills.py::test_two_workers_one_killed_then_the_parent_then_resumed",
            f"{CHAOS}/test_run_folder_kills.py::test_killed_and_resumed_gives_the_same_files",
            f"{CHAOS}/test_run_folder_kills.py::test_torn_last_line_costs_one_cell",
            f"{ANALYSIS}/test_journal.py::test_torn_at_every_byte",
        ),
        (
            f"{CHAOS}/test_kills_of_every_command.py::test_killed_at_random_instants",
            f"{CHAOS}/test_report_kills.py::test_a_killed_report_ends_up_the_same",
            f"{CHAOS}/test_calibrate_kills.py::test_a_killed_calibration_ends_up_the_same",
            f"{CHAOS}/test_verify_kills.py::test_a_killed_verification_ends_up_the_same",
            f"{CHAOS}/test_verify_kills.py::test_a_killed_simulation_ends_up_the_same",
            f"{CHAOS}/test_compare_kills.py::test_a_killed_comparison_ends_up_the_same",
            f"{CHAOS}/test_sweep_kills.py::test_a_dask_cluster_of_one_whose_client_is_killed_and_comes_back",
            f"{CHAOS}/test_sweep_kills.py::test_a_killed_worker_is_replaced_and_the_run_ends_as_if_nothing_were",
            f"{CHAOS}/test_sweep_kills.py::test_killed_again_and_again",
            f"{CHAOS}/test_run_folder_kills.py::test_killed_and_resumed_gives_the_same_files",
        ),
    ),
    Promise(
        5,
        "A full disk or a file-size limit: exit code 5, earlier results stay, nothing half is left, it goes on later",
        "15 commands, with a limit below the size of each of their files; a disk of 4 KB that grows",
        (
            f"{CHAOS}/test_full_disk.py::test_a_file_size_limit_at_every_file",
            f"{CHAOS}/test_full_disk.py::test_a_disk_that_is_really_full",
            f"{CHAOS}/test_run_folder_kills.py::test_full_disk_then_resume",
        ),
        (
            f"{CHAOS}/test_full_disk.py::test_a_file_size_limit_at_every_file",
            f"{CHAOS}/test_full_disk.py::test_a_disk_that_is_really_full",
        ),
    ),
    Promise(
        6,
        "A second run in a folder ends within a second with exit code 75, the first is unharmed, no file is read half",
        "50 starts at once, 1 winner; 100 starts during one run",
        (
            f"{CHAOS}/test_two_runs.py::test_every_command_leaves_a_busy_folder_alone",
            f"{CHAOS}/test_two_runs.py::test_the_first_run_is_unharmed",
            f"{CHAOS}/test_two_runs.py::test_readers_never_see_half_a_file",
            f"{CHAOS}/test_two_runs.py::test_a_dead_run_holds_no_folder",
            f"{CHAOS}/test_run_folder_kills.py::test_many_starts_at_once_have_one_winner",
        ),
        (
            f"{CHAOS}/test_two_runs.py::test_the_first_run_is_unharmed",
            f"{CHAOS}/test_two_runs.py::test_of_fifty_processes_that_start_at_once_one_runs",
            f"{CHAOS}/test_run_folder_kills.py::test_many_starts_at_once_have_one_winner",
        ),
    ),
    Promise(
        7,
        "Same inputs, seed, device, dtype and kind of CPU: the same bytes, whatever the workers, their order and the "
        "engine",
        "sequential, loky and dask, 1 and 2 workers, an array of jobs",
        (
            f"{ANALYSIS}/test_engine.py::test_loky_gives_the_same_bytes",
            f"{ANALYSIS}/test_engine.py::test_dask_gives_the_same_bytes",
            f"{ANALYSIS}/test_sweep.py::test_one_cell_at_a_time_gives_the_same_bytes",
            f"{CHAOS}/test_sweep_kills.py"
            "::test_a_dask_cluster_of_two_gives_the_same_bytes_also_when_a_worker_is_killed",
            "tests/simulate/claims/test_claims.py::test_rows_depend_on_key_and_trial_alone",
        ),
        (
            f"{CHAOS}/test_compare_kills.py::test_a_killed_comparison_ends_up_the_same",
            f"{CHAOS}/test_sweep_kills.py::test_the_whole_is_started_while_an_array_still_runs",
            f"{CHAOS}/test_sweep_kills.py::test_an_array_of_jobs_in_one_folder",
        ),
    ),
    Promise(
        8,
        "Any blocks give the logits and states of one block: to 1e-11 in float64, 1e-5 in float32",
        "2,000 drawn ways to cut a text, 1,000 drawn shapes",
        (
            f"{ATTACKS}/test_any_blocks.py::test_any_blocks_give_the_same",
            f"{ATTACKS}/test_any_blocks.py::test_every_block_length_from_1_to_one_too_many",
            f"{ATTACKS}/test_any_blocks.py::test_a_state_that_is_not_carried_on_would_be_seen",
            f"{ATTACKS}/test_any_scales.py::*",
            f"{SPECTRA}/test_model.py::test_block_length_changes_nothing",
            f"{SPECTRA}/test_model.py::test_decode_equals_prefill",
        ),
        (
            f"{ATTACKS}/test_any_blocks.py::test_any_blocks_give_the_same_2000_times",
            f"{ATTACKS}/test_any_shapes.py::test_1000_models_of_any_shape",
        ),
    ),
    Promise(
        9,
        "Memory does not grow with the length of a text",
        "1,048,576 tokens take at most 5 MB more than 65,536",
        (f"{SPECTRA}/test_flat_memory.py::test_a_longer_text_takes_no_more_memory",),
        (f"{SPECTRA}/test_flat_memory.py::test_a_million_tokens_take_no_more_memory",),
    ),
    Promise(
        10,
        "A million tokens add no drift; a state that overflows names its layer, and the first token of its block",
        "1,048,576 tokens in float32 beside float64: decays, states and bits within 2e-6, or three "
        "times what one block alone errs",
        (
            f"{ANALYSIS}/test_million_tokens.py::test_float32_keeps_to_float64_over_a_few_blocks",
            f"{SPECTRA}/test_model.py::test_a_broken_state_names_its_layer",
            f"{SPECTRA}/test_model.py::test_a_state_that_overflows_on_the_way_names_its_layer_and_its_block",
        ),
        (f"{ANALYSIS}/test_million_tokens.py::test_a_million_tokens_add_no_drift",),
    ),
    Promise(
        11,
        "What does not fit in memory is refused before a weight is read; the estimate is near the peak",
        "told and measured of whole commands: 0.75 to 1.6",
        (
            f"{FIGURES}/test_resources.py::test_what_cannot_fit_is_refused_in_one_line_before_a_weight_is_read",
            f"{FIGURES}/test_resources.py::test_the_peak_of_a_run_is_about_what_was_told",
        ),
    ),
    Promise(
        12,
        "Wrong tokenizers and empty, tiny, binary or foreign texts are refused, with a count",
        "27 broken texts, every command and option that takes one",
        (
            f"{ATTACKS}/test_bad_texts.py::*",
            f"{FIGURES}/test_cli.py::test_another_tokenizer_is_another_run",
        ),
    ),
    Promise(
        13,
        "The same content as calibration, validation or test text twice is refused, under whatever name or form",
        "6 commands, 6 pairs of roles, 3 disguises (1 where only plain texts are read: compare, sweep)",
        (
            f"{ATTACKS}/test_leakage.py::test_the_same_content_in_two_roles_is_refused",
            f"{ATTACKS}/test_leakage.py::test_one_text_given_twice_is_not_two_texts",
            f"{ATTACKS}/test_leakage.py::test_a_proposal_is_not_scored_on_the_text_that_it_was_measured_on",
            f"{ATTACKS}/test_leakage.py::test_a_corpus_that_leaks_is_refused",
            f"{ATTACKS}/test_leakage.py::test_texts_that_differ_are_taken",
            f"{ATTACKS}/test_leakage.py::test_scales_are_not_scored_on_the_text_that_they_were_fitted_on",
            f"{ATTACKS}/test_leakage.py::test_no_command_scores_scales_on_the_text_that_they_were_made_from",
        ),
    ),
    Promise(
        14,
        "A reported number is that of the stored scales: evaluated again they give it to the last digit",
        "every digit of every row",
        (
            f"{ATTACKS}/test_made_by.py::test_stored_scales_give_the_table_that_was_reported",
            f"{FIGURES}/test_cli.py::test_a_calibration_is_kept_resumed_and_evaluated",
        ),
        (f"{ATTACKS}/test_made_by.py::test_stored_scales_of_a_comparison_give_the_table_that_was_reported",),
    ),
    Promise(
        15,
        "A baked checkpoint computes what the scaled model computes; factor 1 gives the same bytes",
        "exact folds within 1e-5 of the largest logit, both layouts, all kinds; in transformers too",
        (
            f"{ANALYSIS}/test_bake.py::test_exact_folds_compute_what_the_scaled_model_computes",
            f"{ANALYSIS}/test_bake.py::test_identity_gives_the_same_tensors_byte_by_byte",
            "tests/parity/test_bake.py::test_transformers_computes_what_the_scaled_model_computes",
        ),
    ),
    Promise(
        16,
        "No claim passes by luck: at most one false alarm in a million runs, power 0.99, a control that must fail",
        "planted wrong corrections, formulas and steps of every claim are found",
        (
            "tests/simulate/test_verdict.py::test_false_alarms_are_as_rare_as_promised",
            "tests/simulate/test_verdict.py::test_the_power_that_is_computed_is_the_power_there_is",
            "tests/simulate/claims/test_claims.py::test_a_planted_wrong_correction_is_found",
            "tests/simulate/claims/test_claims.py::test_every_claim_is_settled",
        ),
    ),
    Promise(
        17,
        "Ctrl-C ends with exit code 130 and one line, and the same command goes on; nothing asks the network unbidden",
        "336 interrupts at random instants of 14 commands, 0 lost; 20 commands, 0 connections",
        (
            f"{CHAOS}/test_ctrl_c.py::test_in_the_middle_of_a_step",
            f"{CHAOS}/test_ctrl_c.py::test_an_interrupt_that_a_library_takes_for_an_error",
            f"{CHAOS}/test_ctrl_c.py::test_at_random_instants",
            f"{CHAOS}/test_workers.py::test_no_worker_outlives_its_run",
            f"{CHAOS}/test_offline.py::test_no_command_asks_the_network",
            f"{CHAOS}/test_offline.py::test_a_hub_id_does_and_is_refused_in_one_line",
        ),
        (
            f"{CHAOS}/test_ctrl_c.py::test_at_random_instants",
            f"{CHAOS}/test_offline.py::test_no_command_asks_the_network",
        ),
    ),
    Promise(
        18,
        "Every run says how each file of it was made: command, seed, versions, device, dtype, inputs by content",
        "15 commands, every file",
        (
            f"{ATTACKS}/test_made_by.py::test_a_run_says_how_every_file_of_it_was_made",
            f"{ANALYSIS}/test_runs.py::test_what_is_recorded",
        ),
        (f"{ATTACKS}/test_made_by.py::test_a_run_says_how_every_file_of_it_was_made",),
    ),
    Promise(
        19,
        "Run folders and scales of earlier formats are read and gone on with; unknown fields are refused",
        "stored folders of calibrate, evaluate, propose and simulate, of every format from the first on",
        (f"{ATTACKS}/test_old_run_folders.py::*",),
    ),
    Promise(
        20,
        "--help comes within 200 ms without torch; the first figure of a bundled model within 20 s",
        "seconds of all cores together",
        (
            f"{FIGURES}/test_help.py::test_help_takes_less_than_200_ms",
            f"{ATTACKS}/test_made_by.py::test_the_first_figure_comes_within_20_seconds",
        ),
    ),
)


def readme_table() -> str:
    """The table of the README."""
    rows = ["| | promised | shown by `make soak` (a short form by `make test`) | tests |", "|---|---|---|---|"]
    for each in PROMISES:
        shown = ", ".join(f"`{file.removesuffix('.py')}`" for file in each.files()[:3])
        rows.append(f"| {each.number} | {each.text} | {each.figure} | {shown} |")
    return "\n".join(rows)


if __name__ == "__main__":
    print(readme_table())
