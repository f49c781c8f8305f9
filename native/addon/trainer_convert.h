// Between the values of lib/native-trainer.ts and the trainer's plain structs.
#pragma once

#include <napi.h>

#include "model/checkpoint.h"
#include "train/trainer.h"

namespace matryoshka::addon {

/// All throw ERR_INVALID_ARGUMENT for what is missing or of another type; ranges are the trainer's business.
train::TrainerOptions to_trainer_options(const Napi::Object& options);
/// Also throws ERR_UNSUPPORTED_DTYPE; the maker, ERR_UNSUPPORTED_DEVICE.
train::MakeTrainBackend to_train_backend(const Napi::Object& options);
train::Targets to_targets(const Napi::Object& batch);
train::LossConfig to_loss(const Napi::Object& loss, const std::vector<int>& exit_layers);
train::LearningRates to_rates(const Napi::Object& rates);

Napi::Object from_step(Napi::Env env, const train::StepResult& result, int tokens, double milliseconds);
Napi::Object from_trainer(Napi::Env env, const Checkpoint& checkpoint, const train::Layout& layout, const std::string& backend);

}  // namespace matryoshka::addon
