module checksum

go 1.19
