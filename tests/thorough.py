"""What the quick suite leaves to `make stress`: further cases of checks that another quick case makes as well.

Patterns of test ids. One architecture, method or view of each kind stays quick; the corners (first, last, singular,
hostile, killed) always do.
"""

from __future__ import annotations

import re

LEFT_TO_STRESS = re.compile(
    "|".join(
        (
            # methods of editing in sequences: ROME (rank one), MEMIT (spread) and fine-tuning (dense) stay
            r"test_lifelong_run\.py.*(measures_what_the_edits_do|slope).*\[(identity|r-rome|alphaedit)\]",
            r"test_lifelong_run\.py.*also_where_the_left_side_is_a_mean_key\[(r-rome|alphaedit|identity)\]",
            r"test_lifelong_resume\.py.*called_off_at_any_moment\[(rome-0\.3|fine-tuning-0\.3|uneven-0\.8)\]",
            r"test_lifelong_resume\.py.*of_other_models_and_texts\[stranger\]",
            r"test_lifelong_study\.py.*does_not_depend_on_what_is_stored",
            r"test_lifelong_waiting\.py.*(orders_that_are_run_as_others|edit_page_and_others_are_untouched)",
            # architectures: GPT-2 stays, with its Conv1D; keys, C and logits of all are tested quickly elsewhere
            r"test_sequence_methods\.py.*\[(GPT-J|GPT-NeoX|Llama)",
            r"test_spread_methods\.py.*\[(GPT-J|GPT-NeoX)",
            r"test_value_search\.py.*\[(GPT-J|GPT-NeoX)",
            r"test_every_architecture\.py.*\[(Granite|Cohere)",
            r"test_half_precision\.py.*\[Llama",
            r"test_several_devices\.py.*\[Llama",
            # Python lines and charts: each page as it opens stays
            r"test_python_lines\.py.*answered facts of another layer",
            r"test_python_lines\.py.*lines_of_another_edit.*\[more[123]\]",
            r"test_python_lines\.py.*lines_of_an_edit.*\[(layers|scatter|search|table|reach|history)-",
            r"test_charts_of_lifelong\.py.*\[(several runs|over edits|12-told2)\]",
            # processes: that two give what one gives, a kill, and an error of one stay
            r"test_covariance_command\.py.*(two_share_the_work_also_after_a_kill|several_do_not_wait)",
            r"test_bundle_damage\.py.*killed_at_any_step",
            r"test_demo\.py.*short_training_run_learns",
            r"test_command_line\.py.*analyse_runs_as_a_program",  # `covariance` runs as one, under torchrun too
            r"test_kills\.py",  # so does the command, killed twice
            r"test_lifelong_study\.py.*a_row_is_of_the_moment",
            r"test_links\.py.*choices_go_along",
            # it prints how long a start takes, and asserts only that there is a heatmap, as every other journey does
            r"test_main_job\.py.*first_heatmap",
            # 140 facts are drawn as an overview as well; that 1,000 answer in time is printed, not asserted
            r"test_figures\.py.*large_fact_set_stays_usable",
        )
    )
)
