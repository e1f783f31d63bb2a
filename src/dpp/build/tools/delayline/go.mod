module dpp-ops/tools/delayline

go 1.26.0
