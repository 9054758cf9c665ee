// Names: the objects of one model by what requests call them: their uuid, or their name, which is
// unique per tenant and cloud only.
//
// A value made for one request, over a document that outlives it: a request may carry as many names
// as there are objects, and then a search for each would be too slow. Cost: a hash insertion for
// each object, and one look-up a name.
#pragma once

#include <fmt/format.h>

#include <algorithm>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "common/base/result.h"

namespace limpet::config {

// "a, b and 7 more": at most eight of `texts`, each once, in order.
inline std::string listed(std::vector<std::string> texts) {
  constexpr std::size_t kShown = 8;
  std::sort(texts.begin(), texts.end());
  texts.erase(std::unique(texts.begin(), texts.end()), texts.end());
  std::string out;
  for (std::size_t i = 0; i < std::min(texts.size(), kShown); ++i)
    out += (i == 0 ? "" : ", ") + texts[i];
  if (texts.size() > kShown) out += fmt::format(" and {} more", texts.size() - kShown);
  return out;
}

template <class Object>
class Names {
 public:
  // `noun`: what a message calls such an object.
  Names(std::span<const Object> objects, std::string noun) : noun_(std::move(noun)) {
    for (const Object& object : objects) {
      by_uuid_.emplace(object.uuid, &object);
      by_name_.emplace(object.name, &object);
    }
  }

  // The object with this uuid, else with this name. An empty tenant: of any. Errors, with an empty
  // path: there is none; or there are several, and then what tells them apart is listed.
  base::Result<const Object*> find(const std::string& name, const std::string& tenant) const {
    const auto of_tenant = [&](const Object& object) {
      return tenant.empty() || object.tenant == tenant;
    };
    if (const auto it = by_uuid_.find(name); it != by_uuid_.end() && of_tenant(*it->second))
      return it->second;
    std::vector<const Object*> found;
    const auto [begin, end] = by_name_.equal_range(name);
    for (auto it = begin; it != end; ++it)
      if (of_tenant(*it->second)) found.push_back(it->second);
    if (found.size() == 1) return found.front();
    return base::Error{"", found.empty() ? none(name, tenant) : several(name, found)};
  }

 private:
  std::string none(const std::string& name, const std::string& tenant) const {
    return tenant.empty() ? fmt::format("no {} is named '{}'", noun_, name)
                          : fmt::format("no {} of tenant '{}' is named '{}'", noun_, tenant, name);
  }
  std::string several(const std::string& name, const std::vector<const Object*>& found) const {
    std::vector<std::string> tenants;
    std::vector<std::string> uuids;
    for (const Object* object : found) {
      tenants.push_back(object->tenant);
      uuids.push_back(object->uuid);
    }
    const bool one_tenant = std::equal(tenants.begin() + 1, tenants.end(), tenants.begin());
    if (one_tenant)
      return fmt::format("tenant '{}' has several {}s named '{}': give a uuid instead ({})",
                         tenants.front(), noun_, name, listed(uuids));
    return fmt::format("several tenants have a {} named '{}': say which ({}), or give its uuid",
                       noun_, name, listed(tenants));
  }

  std::string noun_;
  std::unordered_map<std::string_view, const Object*> by_uuid_;
  std::unordered_multimap<std::string_view, const Object*> by_name_;
};

}  // namespace limpet::config
