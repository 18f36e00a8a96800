-- Arrays
x.arr
x.arr[1]
x.arr[0]
x.arr[-1]
x.arr[1:2]
cardinality(x.arr)
array_length(x.arr, 1)
array_upper(x.arr, 1)
x.i = any(x.arr)
1 = any(x.arr)
1 <> all(x.arr)
x.arr @> array[1]
x.arr <@ array[1,2,3]
x.arr && array[4,5]
x.arr || 9
x.arr || array[9]
array_append(x.arr, 9)
array_remove(x.arr, 7)
array_position(x.arr, 4)
array_to_string(x.arr, ',')
array_to_string(x.tags, ',', '*')
x.arr = array[1,2,3]
array[x.i, y.i]
x.tags
'2' = any(x.tags)
array_cat(x.arr, x.arr)
1 = all(x.arr)
1 = some(x.arr)
x.arr[x.j]
x.arr[x.j + 1]
x.arr[x.j - 2]
x.arr[1 + 1]
x.arr[-1 + 2]
x.arr[abs(x.j)]
x.arr[2]
(x.arr)[1]
x.tags[1] || 'a'
x.arr[1] / 2
x.arr[2:]
