"""Table of the arguments of the methods of RLlib's `AlgorithmConfig`.

An argument is one of:

    honoured   does what RLlib says
    mapped     sets the hyperparameter that is named
    passed     is given to RLlib and changes no result: resources, logging, time limits
    refused    raises `UserError` for any value but the default, with what to use instead, if anything

`checked_config.CheckedConfig` applies the table.
``tests/test_rllib_settings.py`` checks that the table has every argument of the installed RLlib, and that
``platform/docs/rllib.md`` shows it.
"""

from collections.abc import Iterator, Mapping

HONOURED, MAPPED, PASSED, REFUSED = "honoured", "mapped", "passed", "refused"

RATES = "every hyperparameter that ends in _lr"
OLD = "no replacement: part of RLlib's old API stack"
BATCHES = "training(batch_size=…, updates_per_call=…): an update draws one batch from the replay buffer"
NETWORKS = "training(hidden=…), or the algorithm's build_nets: the recipe builds its networks"
DATA = "data(NAME): the learners read a data set of off2on"
ROLLOUTS = "online(steps, rollout=…)"
CONNECTORS = "training(normalise_obs=…, reward=…), or a gymnasium wrapper: there are no connectors"
EPISODE = "a gymnasium wrapper: the environment runners return rows, not RLlib's episodes"
ONE_AGENT = "no replacement: off2on trains one agent"
OFFLINE_EVALUATION = "off2on eval, or off2on ope: offline evaluation is separate from training"
LOCAL_EVALUATION = "no replacement: evaluation runs in the process of the algorithm"
LEARNER = "no replacement: a recipe's losses run in RecipeLearner"
TORCH = "no replacement: torch only"
COMPILATION = "training(compile=…)"

TABLE: Mapping[str, tuple[tuple[str, str, str], ...]] = {
    "api_stack": (
        ("enable_rl_module_and_learner enable_env_runner_and_connector_v2", REFUSED, OLD),
    ),
    "callbacks": (
        (
            "callbacks_class on_algorithm_init on_train_result on_evaluate_start on_evaluate_end "
            "on_env_runners_recreated on_checkpoint_loaded on_environment_created",
            HONOURED,
            "",
        ),
        ("on_episode_created on_episode_start on_episode_step on_episode_end", REFUSED, EPISODE),
        ("on_sample_end", REFUSED, EPISODE),
        (
            "on_evaluate_offline_start on_evaluate_offline_end on_offline_eval_runners_recreated",
            REFUSED,
            OFFLINE_EVALUATION,
        ),
    ),
    "checkpointing": (
        (
            "export_native_model_files checkpoint_trainable_policies_only",
            REFUSED,
            "no replacement: a checkpoint holds everything; policy.pt of a run needs no RLlib",
        ),
    ),
    "debugging": (
        ("seed", HONOURED, ""),
        ("log_level log_sys_usage", PASSED, ""),
        ("fake_sampler", REFUSED, OLD),
    ),
    "env_runners": (
        ("num_env_runners num_envs_per_env_runner gym_env_vectorize_mode", HONOURED, ""),
        (
            "num_cpus_per_env_runner num_gpus_per_env_runner custom_resources_per_env_runner "
            "validate_env_runners_after_construction sample_timeout_s",
            PASSED,
            "",
        ),
        ("rollout_fragment_length batch_mode", REFUSED, ROLLOUTS),
        ("explore exploration_config", REFUSED, "online(steps, exploration=…)"),
        ("observation_filter", REFUSED, "training(normalise_obs=True)"),
        (
            "env_to_module_connector module_to_env_connector "
            "add_default_connectors_to_env_to_module_pipeline "
            "add_default_connectors_to_module_to_env_pipeline merge_env_runner_states "
            "broadcast_env_runner_states use_env_runner_state_server env_runner_state_server_max_concurrency",
            REFUSED,
            CONNECTORS,
        ),
        (
            "env_runner_cls create_local_env_runner create_env_on_local_worker episode_lookback_horizon "
            "episodes_to_numpy max_requests_in_flight_per_env_runner",
            REFUSED,
            "no replacement: RecipeEnvRunner steps the environments, see online(asynchronous=…)",
        ),
        (
            "compress_observations use_worker_filter_stats update_worker_filter_stats sample_collector "
            "remote_worker_envs remote_env_batch_wait_ms preprocessor_pref enable_tf1_exec_eagerly "
            "sampler_perf_stats_ema_coef num_rollout_workers num_envs_per_worker "
            "validate_workers_after_construction ignore_worker_failures recreate_failed_workers "
            "restart_failed_sub_environments num_consecutive_worker_failures_tolerance "
            "worker_health_probe_timeout_s worker_restore_timeout_s synchronize_filter enable_connectors",
            REFUSED,
            OLD,
        ),
    ),
    "environment": (
        ("env env_config observation_space action_space", HONOURED, ""),
        ("disable_env_checking", PASSED, ""),
        ("clip_rewards", REFUSED, "training(reward=…), a transform of the reward in both phases"),
        (
            "normalize_actions clip_actions",
            REFUSED,
            "no replacement: actions are always scaled to [-1, 1] and clipped to their box",
        ),
        ("render_env is_atari action_mask_key env_task_fn", REFUSED, "a gymnasium wrapper"),
    ),
    "evaluation": (
        ("evaluation_interval evaluation_duration", HONOURED, ""),
        (
            "evaluation_config",
            HONOURED,
            "explore only, by default False: the deterministic policy",
        ),
        (
            "evaluation_sample_timeout_s evaluation_unhealthy_workers_timeout_s "
            "evaluation_error_after_n_consecutive_skips evaluation_force_reset_envs_before_iteration "
            "always_attach_evaluation_results",
            PASSED,
            "",
        ),
        ("evaluation_duration_unit", REFUSED, "evaluation(evaluation_duration=EPISODES): whole episodes"),
        (
            "evaluation_num_env_runners evaluation_num_workers evaluation_parallel_to_training "
            "evaluation_auto_duration_min_env_steps_per_sample "
            "evaluation_auto_duration_max_env_steps_per_sample",
            REFUSED,
            LOCAL_EVALUATION,
        ),
        ("custom_evaluation_function", REFUSED, "an override of the algorithm's evaluate"),
        (
            "off_policy_estimation_methods ope_split_batch_by_episode offline_evaluation_interval "
            "num_offline_eval_runners offline_evaluation_type offline_eval_runner_class "
            "offline_loss_for_module_fn offline_eval_batch_size_per_runner "
            "dataset_num_iters_per_offline_eval_runner offline_eval_rl_module_inference_only "
            "num_cpus_per_offline_eval_runner num_gpus_per_offline_eval_runner "
            "custom_resources_per_offline_eval_runner offline_evaluation_timeout_s "
            "max_requests_in_flight_per_offline_eval_runner broadcast_offline_eval_runner_states "
            "validate_offline_eval_runners_after_construction restart_failed_offline_eval_runners "
            "ignore_offline_eval_runner_failures max_num_offline_eval_runner_restarts "
            "offline_eval_runner_health_probe_timeout_s offline_eval_runner_restore_timeout_s",
            REFUSED,
            OFFLINE_EVALUATION,
        ),
    ),
    "experimental": (
        ("_validate_config _use_msgpack_checkpoints", PASSED, ""),
        (
            "_torch_grad_scaler_class _torch_lr_scheduler_classes",
            REFUSED,
            "an override of the algorithm's optimizer or lr",
        ),
        (
            "_tf_policy_handles_more_than_one_loss _disable_preprocessor_api _disable_action_flattening "
            "_disable_initialize_loss_from_dummy_batch",
            REFUSED,
            OLD,
        ),
    ),
    "fault_tolerance": (
        (
            "restart_failed_env_runners ignore_env_runner_failures max_num_env_runner_restarts "
            "delay_between_env_runner_restarts_s num_consecutive_env_runner_failures_tolerance "
            "env_runner_health_probe_timeout_s env_runner_restore_timeout_s",
            PASSED,
            "",
        ),
        (
            "restart_failed_sub_environments recreate_failed_env_runners ignore_worker_failures "
            "recreate_failed_workers max_num_worker_restarts delay_between_worker_restarts_s "
            "num_consecutive_worker_failures_tolerance worker_health_probe_timeout_s "
            "worker_restore_timeout_s",
            REFUSED,
            OLD,
        ),
    ),
    "framework": (
        ("eager_tracing eager_max_retraces tf_session_args local_tf_session_args", PASSED, ""),
        ("framework", REFUSED, TORCH),
        (
            "torch_compile_learner torch_compile_learner_what_to_compile torch_compile_learner_dynamo_mode "
            "torch_compile_learner_dynamo_backend torch_compile_worker torch_compile_worker_dynamo_backend "
            "torch_compile_worker_dynamo_mode",
            REFUSED,
            COMPILATION,
        ),
        ("torch_ddp_kwargs torch_skip_nan_gradients", REFUSED, LEARNER),
    ),
    "learners": (
        ("num_learners", HONOURED, ""),
        ("num_gpus_per_learner", HONOURED, "0, the default: learners compute on the CPU"),
        ("num_cpus_per_learner custom_resources_per_learner local_gpu_idx", PASSED, ""),
        (
            "num_aggregator_actors_per_learner max_requests_in_flight_per_aggregator_actor "
            "max_requests_in_flight_per_learner learner_class learner_connector "
            "add_default_connectors_to_learner_pipeline learner_config_dict",
            REFUSED,
            LEARNER,
        ),
    ),
    "multi_agent": (
        (
            "policies policy_map_capacity policy_mapping_fn policies_to_train policy_states_are_swappable "
            "observation_fn count_steps_by algorithm_config_overrides_per_module replay_mode "
            "policy_map_cache",
            REFUSED,
            ONE_AGENT,
        ),
    ),
    "offline_data": (
        (
            "input_ offline_data_class input_read_method input_read_method_kwargs input_read_schema "
            "input_read_episodes input_read_sample_batches input_read_batch_size input_filesystem "
            "input_filesystem_kwargs input_compress_columns materialize_data materialize_mapped_data "
            "map_batches_kwargs iter_batches_kwargs ignore_final_observation prelearner_class "
            "prelearner_buffer_class prelearner_buffer_kwargs prelearner_module_synch_period "
            "prelearner_use_recorded_module_states dataset_num_iters_per_learner input_config "
            "actions_in_input_normalized postprocess_inputs shuffle_buffer_size output output_config "
            "output_compress_columns output_max_file_size output_max_rows_per_file "
            "output_write_remaining_data output_write_method output_write_method_kwargs output_filesystem "
            "output_filesystem_kwargs output_write_episodes offline_sampling",
            REFUSED,
            DATA,
        ),
    ),
    "python_environment": (
        ("extra_python_environs_for_driver extra_python_environs_for_worker", PASSED, ""),
    ),
    "reporting": (
        ("metrics_num_episodes_for_smoothing min_time_s_per_iteration", HONOURED, ""),
        ("metrics_episode_collection_timeout_s", PASSED, ""),
        (
            "min_train_timesteps_per_iteration min_sample_timesteps_per_iteration",
            REFUSED,
            f"training(updates_per_call=…) offline, {ROLLOUTS} online",
        ),
        ("keep_per_episode_custom_metrics log_gradients custom_stats_cls_lookup", REFUSED, "callbacks(…)"),
    ),
    "resources": (
        (
            "num_cpus_for_main_process custom_resources_for_main_process placement_strategy local_gpu_idx",
            PASSED,
            "",
        ),
        (
            "num_gpus _fake_gpus num_cpus_per_worker num_gpus_per_worker custom_resources_per_worker "
            "num_learner_workers num_cpus_per_learner_worker num_gpus_per_learner_worker "
            "num_cpus_for_local_worker",
            REFUSED,
            "learners(…) or env_runners(…)",
        ),
    ),
    "rl_module": (
        (
            "model_config rl_module_spec algorithm_config_overrides_per_module model_config_dict "
            "_enable_rl_module_api",
            REFUSED,
            NETWORKS,
        ),
    ),
    "training": (
        ("gamma", MAPPED, "discount"),
        ("lr", MAPPED, RATES),
        ("train_batch_size", MAPPED, "batch_size"),
        ("train_batch_size_per_learner", MAPPED, "batch_size, times the number of learners"),
        ("grad_clip grad_clip_by", HONOURED, "per optimiser, on the gradient averaged over the learners"),
        ("num_epochs minibatch_size shuffle_batch_per_epoch num_sgd_iter", REFUSED, BATCHES),
        ("model", REFUSED, NETWORKS),
        ("optimizer", REFUSED, "an override of the algorithm's optimizer"),
        (
            "num_aggregator_actors_per_learner max_requests_in_flight_per_aggregator_actor "
            "max_requests_in_flight_per_sampler_worker learner_class learner_connector "
            "add_default_connectors_to_learner_pipeline learner_config_dict",
            REFUSED,
            LEARNER,
        ),
    ),
}  # fmt: skip
"""Methods of `AlgorithmConfig` to rows of: arguments, treatment, what they mean or what to use instead."""


def settings() -> Iterator[tuple[str, str, str, str]]:
    """Yield the method, the argument, its treatment and the note of every argument."""
    for method, rows in TABLE.items():
        for names, treatment, note in rows:
            for name in names.split():
                yield method, name, treatment, note
