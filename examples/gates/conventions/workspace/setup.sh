# inputs: banned.txt
# keeps: made
# made-from: banned.txt
mkdir -p made
tr 'A-Z' 'a-z' < banned.txt | sort -u > made/banned.txt
