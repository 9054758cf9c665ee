// GET /metrics: the Prometheus text exposition format, version 0.0.4. Pure; called on the renderer
// thread.
#pragma once

#include <string>

#include "common/telemetry/histogram.h"
#include "control/api/backend.h"

namespace limpet::api {

inline constexpr const char* kPrometheusContentType = "text/plain; version=0.0.4; charset=utf-8";

// What a histogram with these labels has to say: cumulative buckets, sum and count.
void add(MetricFamily* family, const MetricLabels& labels,
         const telemetry::DurationHistogram& histogram);

// Every family with its HELP and TYPE lines, also those without samples. Label values are escaped;
// what is not UTF-8 in them becomes "?" (Prometheus refuses the whole scrape otherwise). No series
// is written twice, for the same reason: uuids tell virtual services, pools and servers of one name
// apart; of what is the same in all labels the first is written.
std::string to_prometheus(const MetricsView& view);

}  // namespace limpet::api
