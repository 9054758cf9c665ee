#include "control/api/service.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <boost/asio/post.hpp>
#include <cctype>

#include "control/api/prometheus.h"
#include "control/api/render.h"

namespace limpet::api {
namespace {

constexpr uint64_t kPageRowsMax = 1000;
constexpr uint64_t kPageRowsDefault = 100;

struct Place {
  std::string_view path;
  std::string_view method;
  Endpoint endpoint;
};

constexpr std::array kPlaces = {
    Place{"/v1/config", "GET", Endpoint::kGetConfig},
    Place{"/v1/config", "PUT", Endpoint::kPutConfig},
    Place{"/v1/health-marks", "POST", Endpoint::kHealthMarks},
    Place{"/v1/persistence-tables", "GET", Endpoint::kListEntries},
    Place{"/v1/persistence-tables", "DELETE", Endpoint::kDeleteEntries},
    Place{"/v1/explain", "GET", Endpoint::kExplain},
    Place{"/v1/events", "GET", Endpoint::kEvents},
    Place{"/v1/status", "GET", Endpoint::kStatus},
    Place{"/metrics", "GET", Endpoint::kMetrics},
};

std::string allowed_methods(std::string_view path) {
  std::string methods;
  for (const Place& place : kPlaces)
    if (place.path == path) methods += (methods.empty() ? "" : ", ") + std::string(place.method);
  return methods;
}

// JSON, or a type that says nothing about the body: curl names a form when it is not told.
bool may_be_json(std::string_view content_type) {
  std::string type(content_type.substr(0, content_type.find(';')));
  while (!type.empty() && type.back() == ' ') type.pop_back();
  std::transform(type.begin(), type.end(), type.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return type.empty() || type == "application/json" || type == "text/json" ||
         type.ends_with("+json") || type == "application/x-www-form-urlencoded" ||
         type == "application/octet-stream" || type == "text/plain";
}

// Fills the parameters of `route`; returns what is wrong with them.
base::Errors read_query(const Target& target, Route& route) {
  switch (route.endpoint) {
    case Endpoint::kListEntries: {
      QueryReader query(
          target, {"virtual_service", "pool", "tenant", "client", "server", "limit", "cursor"});
      route.filter = query.entry_filter();
      route.page.limit =
          static_cast<uint32_t>(query.number("limit", 1, kPageRowsMax, kPageRowsDefault));
      route.page.cursor = query.text("cursor").value_or("");
      return query.errors();
    }
    case Endpoint::kDeleteEntries: {
      QueryReader query(target, {"virtual_service", "pool", "tenant", "client", "server"});
      query.refuse_empty();
      route.filter = query.entry_filter();
      return query.errors();
    }
    case Endpoint::kExplain: {
      QueryReader query(target, {"virtual_service", "client", "tenant"});
      route.explain.virtual_service = query.required_text("virtual_service");
      route.explain.client = query.required_address("client");
      route.explain.tenant = query.text("tenant");
      return query.errors();
    }
    case Endpoint::kEvents: {
      QueryReader query(target, {"after", "limit"});
      route.events_after = query.number("after", 0, UINT64_MAX, 0);
      route.events_limit = query.number("limit", 1, kPageRowsMax, kPageRowsDefault);
      return query.errors();
    }
    case Endpoint::kPutConfig: {
      QueryReader query(target, {"if_serving"});
      route.put.if_serving = query.flag("if_serving");
      return query.errors();
    }
    case Endpoint::kGetConfig:
    case Endpoint::kHealthMarks:
    case Endpoint::kStatus:
    case Endpoint::kMetrics:
      break;
  }
  return QueryReader(target, {}).errors();
}

Response ok(std::string text) {
  return {.status = 200,
          .content_type = "application/json",
          .allow = "",
          .body = std::make_shared<const std::string>(std::move(text))};
}

}  // namespace

Response refuse(unsigned status, const base::Errors& errors) {
  Response response = ok(to_json(errors));
  response.status = status;
  return response;
}

Response refuse(unsigned status, std::string message) {
  return refuse(status, base::Errors{{"", std::move(message)}});
}

void Renderer::run(std::function<Response()> print, Respond respond) {
  if (!thread_) return;
  boost::asio::post(*thread_, [&io = io_, print = std::move(print),
                               respond = std::move(respond)]() mutable {
    Response response = print();
    print = nullptr;  // a large view is freed here, not on the control thread
    boost::asio::post(io, [response = std::move(response), respond = std::move(respond)]() mutable {
      respond(std::move(response));
    });
  });
}

void Renderer::close() {
  if (!thread_) return;
  thread_->stop();
  thread_->join();
  // Moved out first: destroying the waiting jobs ends sessions, which may come back here.
  const auto ended = std::move(thread_);
}

std::variant<Route, Response> Service::route(const RequestHead& head) const {
  const auto target = parse_target(head.target);
  if (!target) return refuse(400, target.errors());
  const std::string& path = target.value().path;
  const std::string allowed = allowed_methods(path);
  if (allowed.empty()) return refuse(404, fmt::format("there is no resource \"{}\"", path));
  const auto place = std::find_if(kPlaces.begin(), kPlaces.end(), [&](const Place& p) {
    return p.path == path && p.method == head.method;
  });
  if (place == kPlaces.end()) {
    Response response =
        refuse(405, fmt::format("{} does not allow {}, only {}", path, head.method, allowed));
    response.allow = allowed;
    return response;
  }

  // A web page that a browser on this host shows must not be able to change an engine.
  if (head.from_browser_page && head.method != "GET")
    return refuse(403, "requests made by web pages of other origins may not change anything");

  Route route;
  route.endpoint = place->endpoint;
  route.takes_body =
      place->endpoint == Endpoint::kPutConfig || place->endpoint == Endpoint::kHealthMarks;
  if (head.has_body && !route.takes_body)
    return refuse(400, fmt::format("{} {} takes no body", head.method, path));
  if (route.takes_body && !may_be_json(head.content_type))
    return refuse(415, fmt::format("\"{}\" is not application/json", head.content_type));
  if (const base::Errors errors = read_query(target.value(), route); !errors.empty())
    return refuse(400, errors);
  return route;
}

template <class T>
Answer<Outcome<T>> Service::printed(Respond respond) {
  return [self = shared_from_this(), respond = std::move(respond)](Outcome<T> outcome) {
    auto shared = std::make_shared<const Outcome<T>>(std::move(outcome));
    self->renderer_.run(
        [shared = std::move(shared)]() -> Response {
          if (const auto* refusal = std::get_if<Refusal>(shared.get()))
            return refuse(refusal->http_status, refusal->errors);
          return ok(to_json(std::get<T>(*shared)));
        },
        respond);
  };
}

void Service::serve(Route route, std::string body, Respond respond) {
  switch (route.endpoint) {
    case Endpoint::kPutConfig:
      return backend_.put_config(std::move(body), route.put,
                                 printed<ConfigApplied>(std::move(respond)));
    case Endpoint::kGetConfig:
      return backend_.get_config([respond](std::shared_ptr<const std::string> text) {
        respond({.status = 200,
                 .content_type = "application/json",
                 .allow = "",
                 .body = std::move(text)});
      });
    case Endpoint::kHealthMarks:
      return backend_.health_marks(std::move(body), printed<MarksApplied>(std::move(respond)));
    case Endpoint::kListEntries:
      return backend_.list_entries(std::move(route.filter), std::move(route.page),
                                   printed<EntryPage>(std::move(respond)));
    case Endpoint::kDeleteEntries:
      return backend_.delete_entries(std::move(route.filter),
                                     printed<EntriesRemoved>(std::move(respond)));
    case Endpoint::kExplain:
      return backend_.explain(std::move(route.explain), printed<Explanation>(std::move(respond)));
    case Endpoint::kEvents:
      return printed<telemetry::EventPage>(std::move(respond))(
          events_.after(route.events_after, route.events_limit));
    case Endpoint::kStatus:
      return backend_.status([answer = printed<StatusView>(std::move(respond))](StatusView view) {
        answer(std::move(view));
      });
    case Endpoint::kMetrics:
      return backend_.metrics([self = shared_from_this(), respond](MetricsView view) {
        auto shared = std::make_shared<const MetricsView>(std::move(view));
        self->renderer_.run(
            [shared = std::move(shared)]() -> Response {
              return {.status = 200,
                      .content_type = kPrometheusContentType,
                      .allow = "",
                      .body = std::make_shared<const std::string>(to_prometheus(*shared))};
            },
            respond);
      });
  }
}

}  // namespace limpet::api
