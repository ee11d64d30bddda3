# frozen_string_literal: true

require_relative "lib/shmhot/version"

Gem::Specification.new do |spec|
  spec.name = "shmhot"
  spec.version = Shmhot::VERSION
  spec.summary = "An io_uring socket ring for Ruby servers, metrics and signals in shared memory, and the hypervisor's clock"
  spec.description = "Bindings of libshmhot: accepting, receiving and sending on thousands of sockets with one call of " \
                     "the library for each turn of the loop; counters and gauges that any process can read while they " \
                     "are written; streams of numbers that any process can follow, whole or not at all; and time with a " \
                     "bound on its error from VMClock pages."
  spec.authors = ["The shmhot authors"]
  spec.licenses = ["MIT", "Apache-2.0"]
  spec.required_ruby_version = ">= 3.1"
  spec.add_dependency "fiddle", ">= 1.0.1"
  spec.metadata["rubygems_mfa_required"] = "true"

  # `make gem` puts the library in; a gem without it uses the system's, and runs wherever that is.
  library = "lib/shmhot/libshmhot.so"
  spec.files = Dir["lib/**/*.rb", "sig/*.rbs", "examples/*.rb", "README.md", base: __dir__]
  if File.exist?(File.join(__dir__, library))
    spec.files << library
    spec.platform = Gem::Platform::CURRENT
  end
end
