# frozen_string_literal: true

module Shmhot
  VERSION = "0.1.0"
end
